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

// The longest frame that is received: a super-packet of as many bytes as the kernel makes (GSO_MAX_SIZE, "BIG TCP"), and what
// comes in front of it.
const (
	maxSuper  = 8 * 65535
	bufferLen = packet.Headroom + maxTags*tagLen + maxSuper + 64
)

// inbox is a fixed set of messages, each with a buffer that any packet fits. The memory is the kernel's, used page by page as
// it is touched: few packets are longer than the MTU, and hardly any longer than 64 KiB.
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
	_ = unix.Madvise(b.buffers, unix.MADV_NOHUGEPAGE) // without it all of the memory may be taken; it is no failure
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

// frame makes f the packet that message i has received. It reports false, and counts why, if that is not whole or cannot be
// described.
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

// The system calls below are made without telling the Go scheduler: that saves some 15 % of the cost of a packet where
// packets are received one by one. They return at once, or else a signal ends them, and the scheduler sends one to a
// thread that it waits for.

// recvmmsg receives as many messages as there are, up to len(ms).
func recvmmsg(fd int, ms []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(ms))), uintptr(len(ms)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// sendmmsg sends messages up to the first that is refused, of which the next call tells the reason.
func sendmmsg(fd int, ms []message) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(ms))), uintptr(len(ms)),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// getsockname reads a socket's own address. The function of that name in package unix allocates.
func getsockname(fd int, sa *unix.RawSockaddrLinklayer) unix.Errno {
	size := uint32(unix.SizeofSockaddrLinklayer)
	_, _, errno := unix.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(sa)),
		uintptr(unsafe.Pointer(&size)))
	return errno
}

// ppoll waits for one descriptor.
func ppoll(fd *unix.PollFd, timeout *unix.Timespec) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(fd)), 1, uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// nanosleep sleeps for d, or less if a signal comes.
func nanosleep(d *unix.Timespec) {
	_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(d)), 0, 0)
}

// schedYield lets others run that wait for the processor.
func schedYield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
