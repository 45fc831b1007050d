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

// The memory that a sender shares with the kernel: frames that hold any packet of a link with MTU 1500, and rings with a
// place for each of them.
const (
	xdpFrameLen = 2048
	xdpFrames   = 1024 // a power of two
)

// xdpKicks is how often the kernel is asked to go on, which it does for 32 packets at a time.
const xdpKicks = 2 * xdpFrames / 32

// xdp transmits through an AF_XDP socket in copy mode (Documentation/networking/af_xdp.rst), which is the cheapest way for a
// packet that needs nothing done to it. It receives nothing, and no program is attached to the NIC. The kernel hands the
// frames to the driver at once: they pass no queueing discipline, and no capture on this machine sees them.
type xdp struct {
	fd       int
	memory   [][]byte // all that is mapped, the frames first
	tx, done xdpRing
	free     []uint64 // frames that nobody uses, by their place in the memory
	produced uint32   // packets put into the ring so far, modulo 2^32
	longest  int      // of the frames that the NIC takes
}

// xdpRing is one of the rings: its two counters, of which each side advances one, and its entries.
type xdpRing struct {
	producer, consumer *uint32
	entries            unsafe.Pointer
}

// xdpDescriptor is struct xdp_desc.
type xdpDescriptor struct {
	place       uint64
	length, opt uint32
}

var errNoQueue = errors.New("every queue of the NIC has an AF_XDP socket already")

// newXDP opens a socket on the first queue of a NIC that has none yet: the kernel takes one for each.
func newXDP(ifi *net.Interface) (*xdp, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("AF_XDP socket: %w", err)
	}
	x := &xdp{fd: fd, free: make([]uint64, 0, xdpFrames), longest: min(xdpFrameLen, packet.EthLen+ifi.MTU)}
	err = x.prepare()
	if err == nil {
		err = x.bind(ifi)
	}
	if err != nil {
		_ = x.close() // the first error is the one to tell
		return nil, err
	}
	return x, nil
}

// prepare shares the frames with the kernel and makes the rings. The one for received packets has to exist, but stays empty.
func (x *xdp) prepare() error {
	if err := unix.SetsockoptInt(x.fd, sendBuffer.level, sendBuffer.name, sendBuffer.value); err != nil {
		return fmt.Errorf("%s: %w", sendBuffer.label, err)
	}
	frames, err := unix.Mmap(-1, 0, xdpFrames*xdpFrameLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("mmap of the frames: %w", err)
	}
	x.memory = append(x.memory, frames)
	for i := range uint64(xdpFrames) {
		x.free = append(x.free, i*xdpFrameLen)
	}
	area := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&frames[0]))), Len: xdpFrames * xdpFrameLen, Size: xdpFrameLen}
	if errno := xdpOption(x.fd, unix.XDP_UMEM_REG, unsafe.Pointer(&area), unsafe.Sizeof(area)); errno != 0 {
		return fmt.Errorf("XDP_UMEM_REG: %w", errno) // ENOBUFS: beyond RLIMIT_MEMLOCK
	}
	size := uint32(xdpFrames)
	for _, ring := range []uintptr{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		if errno := xdpOption(x.fd, ring, unsafe.Pointer(&size), unsafe.Sizeof(size)); errno != 0 {
			return fmt.Errorf("ring of AF_XDP: %w", errno)
		}
	}
	offsets, errno := xdpOffsets(x.fd)
	if errno != 0 {
		return fmt.Errorf("XDP_MMAP_OFFSETS: %w", errno)
	}
	if x.tx, err = x.ring(unix.XDP_PGOFF_TX_RING, &offsets.Tx, unsafe.Sizeof(xdpDescriptor{})); err != nil {
		return err
	}
	x.done, err = x.ring(unix.XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.Cr, unsafe.Sizeof(uint64(0)))
	return err
}

// ring maps a ring whose entries have a size.
func (x *xdp) ring(which int64, at *unix.XDPRingOffset, size uintptr) (xdpRing, error) {
	m, err := unix.Mmap(x.fd, which, int(at.Desc)+xdpFrames*int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return xdpRing{}, fmt.Errorf("mmap of a ring of AF_XDP: %w", err)
	}
	x.memory = append(x.memory, m)
	p := unsafe.Pointer(&m[0])
	return xdpRing{(*uint32)(unsafe.Add(p, at.Producer)), (*uint32)(unsafe.Add(p, at.Consumer)), unsafe.Add(p, at.Desc)}, nil
}

// bind ties the socket to the first free queue. Copy mode leaves the driver alone.
func (x *xdp) bind(ifi *net.Interface) error {
	for queue := uint32(0); ; queue++ {
		err := unix.Bind(x.fd, &unix.SockaddrXDP{Flags: unix.XDP_COPY, Ifindex: uint32(ifi.Index), QueueID: queue})
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EBUSY):
		case errors.Is(err, unix.EINVAL) && queue > 0: // behind the last queue
			return errNoQueue
		default:
			return fmt.Errorf("bind of AF_XDP: %w", err)
		}
	}
}

// suits says whether the packet can leave this way: it needs neither to be taken apart nor a checksum, is not too long, so
// that nothing but the link can refuse it, and there is a frame for it.
func (x *xdp) suits(o *packet.Out) bool {
	return o.Offload.GSO == packet.GSONone && o.Offload.Checksum != packet.ChecksumPartial && len(o.More) == 0 &&
		len(o.Head)-packet.VnetLen+len(o.Payload) <= x.longest && len(x.free) > 0
}

// put puts a packet that suits into the ring.
func (x *xdp) put(o *packet.Out) {
	place := x.free[len(x.free)-1]
	x.free = x.free[:len(x.free)-1]
	frame := x.memory[0][place:][:xdpFrameLen]
	n := copy(frame, o.Head[packet.VnetLen:])
	n += copy(frame[n:], o.Payload)
	*x.descriptor(x.produced) = xdpDescriptor{place: place, length: uint32(n)}
	x.produced++
}

// kick has the kernel send the n packets that were put last, and what it did not get done before. While the link is down
// it takes none.
func (x *xdp) kick(n int) (refused int, err error) {
	atomic.StoreUint32(x.tx.producer, x.produced)
	for i := range xdpKicks {
		errno := kickXDP(x.fd)
		switch errno {
		case unix.ENXIO, unix.ENODEV:
			return n, errGone
		case unix.EBADF, unix.ENOTSOCK:
			return n, errno
		case unix.ENETDOWN:
			if i == 0 { // it has not looked into the ring
				x.takeBack(n)
				return n, nil
			}
			return 0, nil
		}
		if atomic.LoadUint32(x.tx.consumer) == x.produced {
			break
		}
	}
	return 0, nil
}

// takeBack takes the n packets that were put last out of the ring.
func (x *xdp) takeBack(n int) {
	for range n {
		x.produced--
		x.free = append(x.free, x.descriptor(x.produced).place)
	}
	atomic.StoreUint32(x.tx.producer, x.produced)
}

// reclaim takes the frames back that the kernel has sent.
func (x *xdp) reclaim() {
	first, end := *x.done.consumer, atomic.LoadUint32(x.done.producer)
	for i := first; i != end; i++ {
		x.free = append(x.free, *(*uint64)(unsafe.Add(x.done.entries, uintptr(i%xdpFrames)*unsafe.Sizeof(uint64(0)))))
	}
	atomic.StoreUint32(x.done.consumer, end)
}

// descriptor returns the place in the ring of packet number i, counted from the first one.
func (x *xdp) descriptor(i uint32) *xdpDescriptor {
	return (*xdpDescriptor)(unsafe.Add(x.tx.entries, uintptr(i%xdpFrames)*unsafe.Sizeof(xdpDescriptor{})))
}

// close frees everything.
func (x *xdp) close() error {
	err := unix.Close(x.fd)
	for _, m := range x.memory {
		if e := unix.Munmap(m); err == nil {
			err = e
		}
	}
	return err
}
