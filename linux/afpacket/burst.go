//go:build linux

package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// A burst is sent by one system call and, more to the point, within one section of kernel code that soft interrupts do not
// break into. sendmmsg lets them in after each packet, which is a third of its cost, and in a flood each time works off
// packets that arrived and will be dropped, before it sends the next one.
const (
	burstMost  = 64        // packets of a burst
	burstLeast = 4         // fewer cost more this way: making the socket buffer that the packets are cloned from is 2 µs
	slotHead   = 16        // length and result of a packet, in front of it
	burstSlot  = 2048 + 64 // a line more than a power of two, or the small packets of a burst would share a few sets of the cache
	burstFrame = burstSlot - slotHead
)

// burst has the kernel send packets by a BPF program (bpf(2), type BPF_PROG_TYPE_SCHED_CLS) that is attached to nothing: it
// runs when we say so (BPF_PROG_TEST_RUN), with a packet that goes nowhere, and sends copies of it with the contents that
// it finds in memory shared with us (a map). The copies pass everything that a packet from a socket would: the queueing discipline,
// captures, and the driver; but a generic XDP program at the other end of a veth pair does not see redirected packets. It takes CAP_BPF, besides CAP_NET_ADMIN, and Linux 5.13.
//
// The program finds the NIC by its number in the namespace of the calling thread. So a burst is for threads of the namespace it
// was made in; others are told that it does not suit.
type burst struct {
	program, memory int // descriptors
	slots           []byte
	longest         int // of the frames that the NIC takes
	run             testRun
	home            namespace
	thread          int // the thread seen last, and
	atHome          bool
}

// testRun is union bpf_attr of BPF_PROG_TEST_RUN.
type testRun struct {
	program, result        uint32
	sizeIn, sizeOut        uint32
	in, out                uint64
	repeat, duration       uint32
	ctxSizeIn, ctxSizeOut  uint32
	ctxIn, ctxOut          uint64
	flags, cpu, batch, pad uint32
}

// newBurst makes what sends bursts on a NIC.
func newBurst(ifi *net.Interface) (b *burst, err error) {
	b = &burst{program: -1, memory: -1, longest: min(burstFrame, packet.EthLen+ifi.MTU)}
	if b.home, err = threadNamespace(); err != nil {
		return nil, err
	}
	if err := b.load(ifi.Index); err != nil {
		_ = b.close() // the first error is the one to tell
		return nil, err
	}
	b.run = testRun{program: uint32(b.program), repeat: 1, in: uint64(uintptr(unsafe.Pointer(&b.slots[slotHead])))}
	return b, nil
}

// load makes the map, maps it, and loads the program.
func (b *burst) load(ifindex int) (err error) {
	array := struct{ kind, keySize, valueSize, entries, flags uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, burstMost * burstSlot, 1, unix.BPF_F_MMAPABLE}
	if b.memory, err = bpfObject(unix.BPF_MAP_CREATE, unsafe.Pointer(&array), unsafe.Sizeof(array)); err != nil {
		return fmt.Errorf("BPF_MAP_CREATE: %w", err)
	}
	b.slots, err = unix.Mmap(b.memory, 0, burstMost*burstSlot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap of a BPF map: %w", err)
	}
	code, license := burstProgram(b.memory, ifindex), []byte("Apache-2.0\x00")
	prog := struct {
		kind, count   uint32
		code, license *byte
		_             [3]uint64 // where the verifier's log would go
		name          [16]byte
	}{kind: unix.BPF_PROG_TYPE_SCHED_CLS, count: uint32(len(code) / 8), code: &code[0], license: &license[0]}
	copy(prog.name[:], "nat64d_burst")
	if b.program, err = bpfObject(unix.BPF_PROG_LOAD, unsafe.Pointer(&prog), unsafe.Sizeof(prog)); err != nil {
		return fmt.Errorf("BPF_PROG_LOAD: %w", err)
	}
	return nil
}

// The kernel's functions that the program calls (enum bpf_func_id).
const (
	skbStoreBytes = 9
	cloneRedirect = 13
	skbChangeTail = 38
)

// burstProgram returns the program. For each slot up to the first of length 0 it gives the packet that length and the slot's
// content, sends a copy, and notes in the slot what became of it. It has no loop: without CAP_PERFMON the verifier lets no
// pointer reach the end of the map, where one would stand after the last round.
func burstProgram(memory, ifindex int) []byte {
	const (
		jump  = unix.BPF_JMP | unix.BPF_K
		move  = unix.BPF_ALU64 | unix.BPF_MOV
		add   = unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K
		call  = unix.BPF_JMP | unix.BPF_CALL
		load  = unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W
		store = unix.BPF_STX | unix.BPF_MEM | unix.BPF_W
		wide  = unix.BPF_LD | unix.BPF_IMM | unix.BPF_DW

		skb, slot, length = 6, 8, 9 // registers that calls preserve
	)
	var code []byte
	at := func() int { return len(code) / 8 }
	emit := func(op, dst, src, off, imm int) {
		code = append(code, byte(op), byte(src<<4|dst))
		code = binary.NativeEndian.AppendUint16(code, uint16(off))
		code = binary.NativeEndian.AppendUint32(code, uint32(imm))
	}
	var exits []int
	exitIf := func(op, register, imm int) {
		exits = append(exits, at())
		emit(jump|op, register, 0, 0, imm)
	}
	emit(move|unix.BPF_X, skb, 1, 0, 0)
	emit(wide, slot, unix.BPF_PSEUDO_MAP_VALUE, 0, memory)
	emit(0, 0, 0, 0, 0) // the other half: from the beginning of the value
	for i := range burstMost {
		if i > 0 {
			emit(add, slot, 0, 0, burstSlot)
		}
		emit(load, length, slot, 0, 0)
		exitIf(unix.BPF_JLT, length, 1) // older verifiers do not conclude from "not 0" that it is 1 or more
		exitIf(unix.BPF_JGT, length, burstFrame)
		emit(move|unix.BPF_X, 1, skb, 0, 0)
		emit(move|unix.BPF_X, 2, length, 0, 0)
		emit(move, 3, 0, 0, 0)
		emit(call, 0, 0, 0, skbChangeTail)
		exitIf(unix.BPF_JNE, 0, 0)
		emit(move|unix.BPF_X, 1, skb, 0, 0)
		emit(move, 2, 0, 0, 0)
		emit(move|unix.BPF_X, 3, slot, 0, 0)
		emit(add, 3, 0, 0, slotHead)
		emit(move|unix.BPF_X, 4, length, 0, 0)
		emit(move, 5, 0, 0, 0)
		emit(call, 0, 0, 0, skbStoreBytes)
		exitIf(unix.BPF_JNE, 0, 0)
		emit(move|unix.BPF_X, 1, skb, 0, 0)
		emit(move, 2, 0, 0, ifindex)
		emit(move, 3, 0, 0, 0)
		emit(call, 0, 0, 0, cloneRedirect)
		emit(store, slot, 0, 4, 0)
	}
	for _, from := range exits {
		binary.NativeEndian.PutUint16(code[from*8+2:], uint16(at()-from-1))
	}
	emit(move, 0, 0, 0, 0)
	emit(unix.BPF_JMP|unix.BPF_EXIT, 0, 0, 0, 0)
	return code
}

// here says whether the calling thread is in the NIC's namespace. Workers stay on their threads, so it is looked up once.
func (b *burst) here() bool {
	if t := unix.Gettid(); t != b.thread {
		ns, err := threadNamespace()
		b.thread, b.atHome = t, err == nil && ns == b.home
	}
	return b.atHome
}

// suits says whether the packet can be part of a burst whose first packet is first: it is no super-packet, not too long, so that
// nothing but the link can refuse it, and of the same family. The copies all have room for the longest, as packets have that a NIC
// received: receivers on this machine have their buffers charged for it.
func (b *burst) suits(o, first *packet.Out) bool {
	const family = packet.Headroom - 2
	return o.Offload.GSO == packet.GSONone && len(o.More) == 0 && frameLen(o) <= b.longest &&
		o.Head[family] == first.Head[family] && o.Head[family+1] == first.Head[family+1]
}

func frameLen(o *packet.Out) int { return len(o.Head) - packet.VnetLen + len(o.Payload) }

// next returns where in out the next burst is, and how many packets it has: 0 if there is none.
func (b *burst) next(out []packet.Out) (first, n int) {
	for first < len(out) {
		for n = 0; n < burstMost && first+n < len(out) && b.suits(&out[first+n], &out[first]); n++ {
		}
		if n >= burstLeast {
			return first, n
		}
		first += max(n, 1)
	}
	return first, 0
}

// unsent is what a slot holds until the program has got to it, and 0 afterwards if all is well. Anything else means that a packet
// has been lost: this one or, as NET_XMIT_CN may mean, another one of the queue.
const unsent = 1 << 31

// send sends a burst. It returns how many packets the kernel has looked at, from the first on, and how many of these it refused.
// It looks at fewer than all of them if it lacks memory, or if it will not run the program.
func (b *burst) send(out []packet.Out) (done, refused int) {
	longest := 0
	for i := range out {
		longest = max(longest, b.put(i, &out[i]))
	}
	if len(out) < burstMost {
		binary.NativeEndian.PutUint32(b.slots[len(out)*burstSlot:], 0)
	}
	// The packet that the copies are made of must have their family, and grows to their length at most once if it has it from the
	// start: the first one's slot is as good as any, whatever lies behind that packet.
	b.run.sizeIn, b.run.sizeOut = uint32(longest), 0 // the kernel has written the latter, and would take it for a limit
	b.kick()
	for ; done < len(out); done++ {
		switch binary.NativeEndian.Uint32(b.slots[done*burstSlot+4:]) {
		case 0:
		case unsent:
			return done, refused
		default:
			refused++
		}
	}
	return done, refused
}

// put writes a packet into a slot and returns its length.
func (b *burst) put(i int, o *packet.Out) int {
	s := b.slots[i*burstSlot:][:burstSlot]
	frame := s[slotHead:]
	n := copy(frame, o.Head[packet.VnetLen:])
	n += copy(frame[n:], o.Payload)
	if o.Offload.Checksum == packet.ChecksumPartial {
		l4 := frame[packet.EthLen+int(o.Offload.CsumStart) : n]
		sum := packet.Sum(0).Bytes(l4).Checksum()
		if sum == 0 && o.Offload.CsumOffset == packet.UDPChecksum {
			sum = 0xffff // 0 would mean that there is none (RFC 768)
		}
		binary.BigEndian.PutUint16(l4[o.Offload.CsumOffset:], sum)
	}
	binary.NativeEndian.PutUint32(s, uint32(n))
	binary.NativeEndian.PutUint32(s[4:], unsent)
	return n
}

// kick runs the program. What came of it is in the slots, whatever the kernel says.
func (b *burst) kick() {
	_, _, _ = unix.RawSyscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&b.run)), unsafe.Sizeof(b.run))
}

// close frees everything.
func (b *burst) close() error {
	var errs []error
	if b.slots != nil {
		errs = append(errs, unix.Munmap(b.slots))
	}
	for _, fd := range []int{b.program, b.memory} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// bpfObject is bpf(2) where it makes something and returns a descriptor.
func bpfObject(command uintptr, attr unsafe.Pointer, size uintptr) (fd int, err error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// namespace identifies a network namespace.
type namespace struct{ device, inode uint64 }

// threadNamespace returns the namespace of the calling thread.
func threadNamespace() (namespace, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return namespace{}, fmt.Errorf("network namespace of the thread: %w", err)
	}
	return namespace{uint64(st.Dev), st.Ino}, nil
}
