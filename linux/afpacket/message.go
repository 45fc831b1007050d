//go:build linux

package afpacket

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// message is struct mmsghdr of recvmmsg(2).
type message struct {
	hdr    unix.Msghdr
	length uint32 // bytes received or sent
}

// The length of the longest received frame: the kernel's largest super-packet (GSO_MAX_SIZE, "BIG TCP") and the
// headers before it.
const (
	maxSuper  = 8 * 65535
	bufferLen = packet.Headroom + maxTags*tagLen + maxSuper + 64
)

// inbox is a fixed set of messages, each with a buffer for the longest packet. The kernel allocates its pages on
// first use: few packets are longer than the MTU, and hardly any longer than 64 KiB.
type inbox struct {
	buffers  []byte
	vectors  []unix.Iovec
	messages []message
}

func newInbox(n int) (b inbox, err error) {
	b.buffers, err = unix.Mmap(-1, 0, n*bufferLen, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return inbox{}, fmt.Errorf("mmap of %d bytes for received packets: %w", n*bufferLen, err)
	}
	_ = unix.Madvise(b.buffers, unix.MADV_NOHUGEPAGE) // without it the kernel may allocate all pages; a failure is harmless
	b.vectors, b.messages = make([]unix.Iovec, n), make([]message, n)
	for i := range n {
		b.vectors[i].Base = &b.buffers[i*bufferLen]
		b.vectors[i].SetLen(bufferLen)
		b.messages[i].hdr.Iov = &b.vectors[i]
		b.messages[i].hdr.SetIovlen(1)
	}
	return b, nil
}

// close frees the buffers.
func (b *inbox) close() error {
	if b.buffers == nil {
		return nil
	}
	buffers := b.buffers
	b.buffers, b.vectors, b.messages = nil, nil, nil
	return unix.Munmap(buffers)
}

// frame sets f to the packet that message i has received. It returns false, and counts the reason, if the packet is
// truncated or cannot be represented.
func (b *inbox) frame(i int, f *packet.Frame, lost *packet.Drops) bool {
	m := &b.messages[i]
	if m.hdr.Flags&unix.MSG_TRUNC != 0 {
		lost.Large++
		return false
	}
	data := b.buffers[i*bufferLen:][:m.length:m.length]
	if m.length < packet.Headroom || !unwrap(f, data[:packet.VnetLen], data[packet.VnetLen:]) {
		lost.Offload++
		return false
	}
	return true
}

// The system calls below bypass the Go scheduler, which saves about 15 % of the cost of a packet where packets are
// received one by one. They return immediately or are interrupted by a signal, which the scheduler sends to a thread
// that it waits for.

// recvmmsg receives the available messages, up to len(ms).
func recvmmsg(fd int, ms []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(ms))), uintptr(len(ms)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendmmsg sends messages up to the first one that is refused; the next call returns the reason.
func sendmmsg(fd int, ms []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(ms))), uintptr(len(ms)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// getsockname reads a socket's own address. The function in package unix allocates.
func getsockname(fd int, sa *unix.RawSockaddrLinklayer) unix.Errno {
	size := uint32(unix.SizeofSockaddrLinklayer)
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(sa)),
		uintptr(unsafe.Pointer(&size)))
	return errno
}

// packetDrops reads and resets the number of packets that a socket had no room for (PACKET_STATISTICS).
func packetDrops(fd int) uint32 {
	var stats unix.TpacketStats
	size := uint32(unix.SizeofTpacketStats)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS,
		uintptr(unsafe.Pointer(&stats)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return stats.Drops
}

// ppoll waits for one descriptor.
func ppoll(fd *unix.PollFd, timeout *unix.Timespec) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(fd)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// nanosleep sleeps for d, or less if a signal arrives.
func nanosleep(d *unix.Timespec) {
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(d)), 0, 0)
}

// schedYield lets other runnable threads use the processor.
func schedYield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// currentCPU returns the number of the processor that the calling thread runs on.
func currentCPU() (cpu uint32) {
	_, _, _ = unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0)
	return cpu
}
