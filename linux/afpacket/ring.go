//go:build linux

package afpacket

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// The geometry of the ring. A slot has room for any frame of a link with MTU 1500; longer frames are received with
// recvmmsg. Slots for super-packets would need 34 MiB or more per port, and were slower in measurements because they
// exceed the cache.
const (
	slotLen  = 2048
	blockLen = 64 << 10
	ringLen  = 4096 * slotLen
)

// slotReserve is the room before each frame, for the virtio_net_hdr, which immediately precedes the Ethernet header,
// and for the alignment of the IP header to 16 bytes.
const slotReserve = 16 + 6

// ring receives through slots in memory shared with the kernel (TPACKET_V2,
// Documentation/networking/packet_mmap.rst). The first word of a slot contains its owner: the kernel until it has
// written a frame, then this process until it returns the slot. Both sides process the slots in the same order.
//
// A frame that is too large for its slot is marked TP_STATUS_COPY and waits in the socket's queue, where such frames
// have the order of their slots.
type ring struct {
	socket
	memory []byte // the slots, contiguous
	slots  int
	next   int   // the next slot to check
	lent   int   // number of slots before next with frames that the caller may still read
	large  inbox // for the frames received by recvmmsg
}

func newRing(ifi *net.Interface, o Options) (receiver, error) {
	r := &ring{slots: ringLen / slotLen}
	if err := r.open(); err != nil {
		return nil, err
	}
	err := r.prepare()
	if err == nil {
		err = r.mapSlots()
	}
	if err == nil {
		r.large, err = newInbox(batch)
	}
	if err == nil {
		err = r.takeScreen(o)
	}
	if err == nil {
		err = r.receive(ifi, o)
	}
	if err != nil {
		_ = r.close() // the first error is the relevant one
		return nil, err
	}
	return r, nil
}

// prepare sets the options that the kernel rejects (EBUSY) after the ring exists, such as PACKET_VNET_HDR.
func (r *ring) prepare() error {
	err := r.set(
		option{"PACKET_VERSION", unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2},
		vnetHeader,
		option{"PACKET_RESERVE", unix.SOL_PACKET, unix.PACKET_RESERVE, slotReserve},
		option{"PACKET_COPY_THRESH", unix.SOL_PACKET, unix.PACKET_COPY_THRESH, 1},
		ignoreOutgoing,
	)
	if err != nil {
		return err
	}
	return r.set(receiveBuffer) // also limits the waiting large frames
}

// mapSlots creates the ring and maps it.
func (r *ring) mapSlots() error {
	req := unix.TpacketReq{Block_size: blockLen, Block_nr: ringLen / blockLen, Frame_size: slotLen, Frame_nr: uint32(r.slots)}
	if err := unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("PACKET_RX_RING of %d slots: %w", r.slots, err)
	}
	p, err := unix.MmapPtr(r.fd, 0, nil, ringLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap of the ring: %w", err)
	}
	r.memory = unsafe.Slice((*byte)(p), ringLen)
	return nil
}

// take implements receiver. It checks at most len(fs) slots, so it never reaches a lent one.
func (r *ring) take(fs []packet.Frame) (n int, err error) {
	r.giveBack()
	for range min(len(fs), len(r.large.messages)) {
		h := r.header(r.next)
		status := atomic.LoadUint32(&h.Status)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		if r.frame(n, &fs[n], r.next, status) {
			n++
		}
		r.next = r.after(r.next, 1)
		r.lent++
	}
	return n, nil
}

// frame sets f, the n-th of its batch, to the packet in a slot. It returns false, and counts the reason, if the
// packet is not usable.
func (r *ring) frame(n int, f *packet.Frame, slot int, status uint32) bool {
	h := r.header(slot)
	switch {
	case status&unix.TP_STATUS_COPY != 0:
		return r.largeFrame(n, f, h.Len)
	case h.Snaplen != h.Len: // too large for the slot, and the socket's queue was full
		r.lost.Room++
		return false
	}
	mac, end := int(h.Mac), int(h.Mac)+int(h.Snaplen)
	data := r.memory[slot*slotLen:][:slotLen:slotLen]
	if !unwrap(f, data[mac-packet.VnetLen:mac], data[mac:end:end]) {
		r.lost.Offload++
		return false
	}
	return true
}

// largeFrame receives the next frame of the socket's queue as the n-th of the batch. The frame must have length
// bytes.
func (r *ring) largeFrame(n int, f *packet.Frame, length uint32) bool {
	m := &r.large.messages[n]
	switch {
	case !r.fetch(n), m.hdr.Flags&unix.MSG_TRUNC == 0 && m.length != packet.VnetLen+length:
		r.lost.Room++
		return false
	}
	return r.large.frame(n, f, &r.lost)
}

// fetch receives the next large frame into message n.
func (r *ring) fetch(n int) bool {
	for {
		switch _, errno := recvmmsg(r.fd, r.large.messages[n:n+1]); errno {
		case 0:
			return true
		case unix.ENETDOWN, unix.EINTR: // no frame was removed from the queue; skipping it would mix up the frames
		default:
			return false
		}
	}
}

// giveBack returns the slots of the last take to the kernel.
func (r *ring) giveBack() {
	for ; r.lent > 0; r.lent-- {
		atomic.StoreUint32(&r.header(r.after(r.next, -r.lent)).Status, unix.TP_STATUS_KERNEL)
	}
}

// header returns the header of a slot. The kernel may write the status at any time, so it must be accessed atomically
// in every build; the other fields are ours to read while the status says so.
func (r *ring) header(slot int) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(&r.memory[slot*slotLen]))
}

// after returns the slot n places after slot i, or before it if n is negative.
func (r *ring) after(i, n int) int {
	i += n
	switch {
	case i >= r.slots:
		return i - r.slots
	case i < 0:
		return i + r.slots
	}
	return i
}

// close implements receiver.
func (r *ring) close() (err error) {
	if r.memory != nil {
		err = unix.MunmapPtr(unsafe.Pointer(&r.memory[0]), ringLen)
	}
	return errors.Join(err, r.socket.close(), r.large.close())
}
