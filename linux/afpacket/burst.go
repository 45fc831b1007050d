//go:build linux

package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// One system call sends a burst, and the kernel runs no soft interrupts until the whole burst is sent. With sendmmsg
// they run after each packet, which takes a third of its cost; in a flood they process packets that will be dropped
// anyway before the next packet is sent.
const (
	burstMost  = 64        // packets of a burst
	burstLeast = 4         // a smaller burst costs more than messages: the kernel takes 2 µs to create the socket buffer to clone
	slotHead   = 16        // length and result of a packet, before its contents
	burstSlot  = 2048 + 64 // a cache line more than a power of two, otherwise the small packets of a burst would share a few cache sets
	burstFrame = burstSlot - slotHead
)

// burst sends packets through a BPF program (BPF_PROG_TYPE_SCHED_CLS) that is not attached to anything.
// BPF_PROG_TEST_RUN runs it on a dummy packet; the program redirects copies of that packet to the NIC, with contents
// from a map shared with this process. The copies pass the queueing discipline, captures and the driver like packets
// from a socket, but a generic XDP program at the other end of a veth pair does not see them. Bursts need CAP_BPF in
// addition to CAP_NET_ADMIN, and Linux 5.13.
//
// The program identifies the NIC by its index in the namespace of the calling thread. So only threads in the
// namespace in which the burst was created may use it; here checks this.
type burst struct {
	program *ebpf.Program
	memory  *ebpf.Map
	slots   []byte // the only value of the map
	longest int    // length of the longest frame that the NIC accepts
	run     testRun
	home    namespace
	thread  int // thread of the last check, and its result
	atHome  bool
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

// newBurst returns a burst for a NIC.
func newBurst(ifi *net.Interface) (b *burst, err error) {
	b = &burst{longest: min(burstFrame, packet.EthLen+ifi.MTU)}
	if b.home, err = threadNamespace(); err != nil {
		return nil, err
	}
	if err := b.load(ifi.Index); err != nil {
		_ = b.close() // the first error is the relevant one
		return nil, err
	}
	b.run = testRun{program: uint32(b.program.FD()), repeat: 1, in: uint64(uintptr(unsafe.Pointer(&b.slots[slotHead])))}
	return b, nil
}

// load creates the map, maps its value into memory, and loads the program. The mapping is our own: ebpf.Memory can
// only be read and written by copying, but put completes checksums in place.
func (b *burst) load(ifindex int) (err error) {
	b.memory, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "nat64d_burst", Type: ebpf.Array, KeySize: 4, ValueSize: burstMost * burstSlot, MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return fmt.Errorf("BPF map of the bursts (CAP_BPF, Linux 5.13): %w", err)
	}
	b.slots, err = unix.Mmap(b.memory.FD(), 0, burstMost*burstSlot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap of the BPF map of the bursts: %w", err)
	}
	b.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nat64d_burst", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: burstProgram(b.memory.FD(), int32(ifindex)),
	})
	if err != nil {
		return fmt.Errorf("BPF program of the bursts (CAP_BPF, Linux 5.13): %w", err)
	}
	return nil
}

// burstProgram returns the program. For each slot up to the first of length 0 it sets the length and content of the
// packet from the slot, sends a copy, and stores the result in the slot. The loop is unrolled: without CAP_PERFMON
// the verifier does not allow a pointer to the end of the map, where it would be after the last iteration.
func burstProgram(memory int, ifindex int32) asm.Instructions {
	const skb, slot, length, end = asm.R6, asm.R8, asm.R9, "end" // calls preserve these registers
	code := asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMapValue(slot, memory, 0),
	}
	for i := range burstMost {
		if i > 0 {
			code = append(code, asm.Add.Imm(slot, burstSlot))
		}
		code = append(code,
			asm.LoadMem(length, slot, 0, asm.Word),
			asm.JLT.Imm(length, 1, end), // older verifiers do not infer from "not 0" that it is at least 1
			asm.JGT.Imm(length, burstFrame, end),

			asm.Mov.Reg(asm.R1, skb), asm.Mov.Reg(asm.R2, length), asm.Mov.Imm(asm.R3, 0),
			asm.FnSkbChangeTail.Call(),
			asm.JNE.Imm(asm.R0, 0, end),

			asm.Mov.Reg(asm.R1, skb), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, slot), asm.Add.Imm(asm.R3, slotHead),
			asm.Mov.Reg(asm.R4, length), asm.Mov.Imm(asm.R5, 0),
			asm.FnSkbStoreBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, end),

			asm.Mov.Reg(asm.R1, skb), asm.Mov.Imm(asm.R2, ifindex), asm.Mov.Imm(asm.R3, 0),
			asm.FnCloneRedirect.Call(),
			asm.StoreMem(slot, 4, asm.R0, asm.Word),
		)
	}
	return append(code, asm.Mov.Imm(asm.R0, 0).WithSymbol(end), asm.Return())
}

// here reports whether the calling thread is in the NIC's namespace. Workers stay on their threads, so the result is
// cached.
func (b *burst) here() bool {
	if t := unix.Gettid(); t != b.thread {
		ns, err := threadNamespace()
		b.thread, b.atHome = t, err == nil && ns == b.home
	}
	return b.atHome
}

// suits reports whether the packet can be part of a burst that starts with first: it is not a super-packet, it is
// short enough that only the link can refuse it, and it is of the same family. Short packets may follow long ones:
// a burst for each size costs more (docs/performance.md).
func (b *burst) suits(o, first *packet.Out) bool {
	const family = packet.Headroom - 2
	return o.Offload.GSO == packet.GSONone && len(o.More) == 0 && frameLen(o) <= b.longest &&
		o.Head[family] == first.Head[family] && o.Head[family+1] == first.Head[family+1]
}

func frameLen(o *packet.Out) int { return len(o.Head) - packet.VnetLen + len(o.Payload) }

// next returns the index in out and the length of the next burst, or length 0 if there is none.
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

// unsent marks a slot that the program has not processed; 0 means success. Any other result means that a packet was
// lost: this one or, with NET_XMIT_CN, possibly another one in the queue.
const unsent = 1 << 31

// send sends a burst. It returns how many packets the kernel has processed, from the first on, and how many of these
// it refused. The kernel processes only some of them if it lacks memory, and none if it cannot run the program.
func (b *burst) send(out []packet.Out) (done, refused int) {
	longest := 0
	for i := range out {
		longest = max(longest, b.put(i, &out[i]))
	}
	if len(out) < burstMost {
		binary.NativeEndian.PutUint32(b.slots[len(out)*burstSlot:], 0)
	}
	// The first slot serves as dummy packet, which needs the family of the burst; the bytes after its packet do not
	// matter. It starts with the maximum length: all copies have its truesize, which the kernel does not update when
	// the dummy packet grows. A receiver would be charged too little, and TCP would compute a wrong window from it.
	b.run.sizeIn, b.run.sizeOut = uint32(longest), 0 // the kernel has overwritten the latter, and would interpret it as a limit
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

// kick runs the program. It uses a raw system call: ebpf.Program.Run would initialize union bpf_attr for each burst
// and make the Go scheduler prepare for a blocking call, which this one is not. The result of the call is ignored,
// because each slot has its own result.
func (b *burst) kick() {
	_, _, _ = unix.RawSyscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN, uintptr(unsafe.Pointer(&b.run)), unsafe.Sizeof(b.run))
}

// close frees all resources.
func (b *burst) close() error {
	var errs []error
	if b.slots != nil {
		errs = append(errs, unix.Munmap(b.slots))
	}
	return errors.Join(append(errs, b.program.Close(), b.memory.Close())...) // closing nil is allowed
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
