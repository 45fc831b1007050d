//go:build linux

package afpacket

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"nat64d/packet"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// screen is the filter of a ring: a BPF program that makes the decisions of filter, but also rejects and counts
// super-packets of kinds that a virtio_net_hdr cannot represent. Guests and TAP devices send such packets (UFO), and
// so do senders of SCTP or ESP.
//
// Without it one such frame stops the ring permanently. The kernel (tpacket_rcv, since Linux 5.6) reserves a slot for
// a frame before it writes the virtio_net_hdr. If it cannot write the header, it drops the frame, but keeps the slot
// reserved and does not advance: it drops every later frame because the slot is in use, until the ring is created
// again. recvmmsg has no slots, and loses only the frame.
//
// A BPF program can read the size of the segments (gso_size) but not their kind, so the screen reads gso_type from
// kernel memory, at offsets from the kernel's type information (BTF). That needs CAP_PERFMON in addition to CAP_BPF.
type screen struct {
	family  packet.Family
	program *ebpf.Program
	counts  *ebpf.Map
}

// Screens are the screens of the ports of a process. A port that is opened again takes one of a port that was closed, because
// a process may give up CAP_PERFMON, which is only needed to load one. The zero value is ready to use, by any goroutine.
type Screens struct {
	mu     sync.Mutex
	kernel Kernel
	loaded [packet.Families]int // how many exist
	spare  [packet.Families][]*screen
}

// Load ensures that n ports of a family can be opened without CAP_PERFMON.
func (s *Screens) Load(f packet.Family, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.loaded[f] < n {
		c, err := s.newLocked(f)
		if err != nil {
			return err
		}
		s.spare[f] = append(s.spare[f], c)
	}
	return nil
}

// take returns a screen that no other port has.
func (s *Screens) take(f packet.Family) (*screen, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.spare[f]); n > 0 {
		c := s.spare[f][n-1]
		s.spare[f] = s.spare[f][:n-1]
		return c, nil
	}
	return s.newLocked(f)
}

// newLocked loads one more screen. The caller holds s.mu.
func (s *Screens) newLocked(f packet.Family) (c *screen, err error) {
	if s.kernel == (Kernel{}) {
		if s.kernel, err = learn(); err != nil {
			return nil, fmt.Errorf("types of the kernel (BTF), without which one odd frame could stop the ring: %w", err)
		}
	}
	if c, err = newScreen(f, s.kernel); err == nil {
		s.loaded[f]++
	}
	return c, err
}

// Know tells the screens what those of an earlier process have Learned since the boot, or zeros.
func (s *Screens) Know(k Kernel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kernel = k
}

// Learned returns what a screen had to learn about the running kernel, or zeros if none was loaded.
func (s *Screens) Learned() Kernel {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kernel
}

// giveBack takes a screen back from a port that is closed.
func (s *Screens) giveBack(c *screen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare[c.family] = append(s.spare[c.family], c)
}

// Close closes the screens of closed ports.
func (s *Screens) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for f := range s.spare {
		for _, c := range s.spare[f] {
			errs = append(errs, c.close())
		}
		s.spare[f] = nil
	}
	return errors.Join(errs...)
}

// The bits of skb_shared_info.gso_type (enum in linux/skbuff.h) that a virtio_net_hdr can represent.
const (
	skbTCPv4 = 1 << 0
	skbTCPv6 = 1 << 4
	skbUDPL4 = 1 << 17 // since Linux 6.2, see UDPSuperPackets
)

// newScreen loads the screen of a family.
func newScreen(f packet.Family, k Kernel) (_ *screen, err error) {
	s := &screen{family: f}
	s.counts, err = ebpf.NewMap(&ebpf.MapSpec{Name: "nat64d_refused", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, fmt.Errorf("BPF map of the ring's filter: %w", err)
	}
	kinds := skbTCPv4 | skbTCPv6
	if UDPSuperPackets() {
		kinds |= skbUDPL4
	}
	s.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "nat64d_screen", Type: ebpf.SocketFilter, Instructions: screenProgram(f, k, s.counts.FD(), int32(kinds)),
		License: "Dual MIT/GPL", // bpf_probe_read_kernel requires a GPL-compatible license
	})
	if err != nil {
		_ = s.close() // the first error is the relevant one
		return nil, fmt.Errorf("BPF program of the ring's filter (CAP_BPF, CAP_PERFMON), without which one odd frame could stop the ring: %w", err)
	}
	return s, nil
}

// refused returns how many frames the screen has rejected because of their kind, for all of its ports so far.
func (s *screen) refused() (n uint64) {
	if s.counts.Lookup(uint32(0), &n) != nil {
		return 0
	}
	return n
}

func (s *screen) close() error {
	err := s.counts.Close()
	if s.program != nil {
		err = errors.Join(err, s.program.Close())
	}
	return err
}

// Kernel is what a screen has to know about the running kernel, zeros if that is not known: the offsets for the kind of a
// super-packet. It holds until the next boot.
type Kernel [offsets]int32

// The offsets. skb_shared_info is at skb->head plus skb->end.
const (
	atHead = iota // of sk_buff.head
	atEnd         // of sk_buff.end
	atKind        // of skb_shared_info.gso_type
	offsets
)

// learn finds out what a port has to know. It does so once, because it takes 30 ms of processor time.
var learn = sync.OnceValues(findFields)

// findFields reads the offsets from the type information of the running kernel.
func findFields() (at Kernel, err error) {
	types, err := btf.LoadKernelSpec()
	if err != nil {
		return at, err
	}
	var skb, shared *btf.Struct
	if err := errors.Join(types.TypeByName("sk_buff", &skb), types.TypeByName("skb_shared_info", &shared)); err != nil {
		return at, err
	}
	for _, f := range []struct {
		of   *btf.Struct
		name string
		size int
		at   *int32
	}{{skb, "head", 8, &at[atHead]}, {skb, "end", 4, &at[atEnd]}, {shared, "gso_type", 4, &at[atKind]}} {
		offset, size, ok := member(f.of, f.name)
		if !ok || size != f.size {
			return at, fmt.Errorf("%s.%s: must be a field of %d bytes", f.of.Name, f.name, f.size)
		}
		*f.at = int32(offset)
	}
	return at, nil
}

// member returns the offset and size of a field of a structure or of an anonymous structure in it.
func member(t btf.Type, name string) (offset, size int, ok bool) {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		switch m.Name {
		case name:
			size, err := btf.Sizeof(m.Type)
			return int(m.Offset.Bytes()), size, err == nil && m.BitfieldSize == 0
		case "":
			if offset, size, ok := member(m.Type, name); ok {
				return int(m.Offset.Bytes()) + offset, size, true
			}
		}
	}
	return 0, 0, false
}

// Fields of struct __sk_buff (linux/bpf.h).
const (
	ctxPktType     = 4
	ctxProtocol    = 16
	ctxVLANPresent = 20
	ctxVLANTCI     = 24
	ctxGSOSize     = 176
)

// screenProgram returns the program: first the decisions of filter, in the same order, then the kind.
func screenProgram(f packet.Family, at Kernel, counts int, kinds int32) asm.Instructions {
	const (
		refuse = "refuse"
		accept = "accept"
		super  = "super"
		skb    = asm.R6 // expected in this register by the instructions that read the frame
	)
	code := asm.Instructions{
		asm.Mov.Reg(skb, asm.R1),
		asm.LoadMem(asm.R0, skb, ctxPktType, asm.Word),
		asm.JNE.Imm(asm.R0, unix.PACKET_HOST, refuse),
		asm.LoadMem(asm.R0, skb, ctxVLANPresent, asm.Word),
		asm.JEq.Imm(asm.R0, 0, "type"),
		asm.LoadMem(asm.R0, skb, ctxVLANTCI, asm.Word),
		asm.JSet.Imm(asm.R0, vlanID, refuse),
		asm.LoadMem(asm.R0, skb, ctxProtocol, asm.Word).WithSymbol("type"), // in network order
		asm.HostTo(asm.BE, asm.R0, asm.Half),
		asm.JEq.Imm(asm.R0, int32(etherType(f)), super),
	}
	for n := range int32(maxTags) {
		tag := fmt.Sprint("tag", n)
		code = append(code,
			asm.JEq.Imm(asm.R0, unix.ETH_P_8021Q, tag),
			asm.JNE.Imm(asm.R0, unix.ETH_P_8021AD, refuse),
			asm.LoadAbs(firstTag+n*tagLen, asm.Half).WithSymbol(tag),
			asm.JSet.Imm(asm.R0, vlanID, refuse),
			asm.LoadAbs(firstTag+n*tagLen+2, asm.Half),
			asm.JEq.Imm(asm.R0, int32(etherType(f)), super),
		)
	}
	read := func(to int16, size int32, from ...asm.Instruction) {
		code = append(code, from...)
		code = append(code,
			asm.Mov.Reg(asm.R1, asm.R10), asm.Add.Imm(asm.R1, int32(to)),
			asm.Mov.Imm(asm.R2, size),
			asm.FnProbeReadKernel.Call(), // zero if the read fails, which is rejected
		)
	}
	code = append(code,
		asm.Ja.Label(refuse),
		asm.LoadMem(asm.R0, skb, ctxGSOSize, asm.Word).WithSymbol(super),
		asm.JEq.Imm(asm.R0, 0, accept),
	)
	const head, end, kind = -8, -16, -24 // on the stack
	read(head, 8, asm.Mov.Reg(asm.R3, skb), asm.Add.Imm(asm.R3, at[atHead]))
	read(end, 4, asm.Mov.Reg(asm.R3, skb), asm.Add.Imm(asm.R3, at[atEnd]))
	read(kind, 4,
		asm.LoadMem(asm.R3, asm.R10, head, asm.DWord),
		asm.LoadMem(asm.R0, asm.R10, end, asm.Word),
		asm.Add.Reg(asm.R3, asm.R0), asm.Add.Imm(asm.R3, at[atKind]))
	return append(code,
		asm.LoadMem(asm.R0, asm.R10, kind, asm.Word),
		asm.JSet.Imm(asm.R0, kinds, accept),
		asm.LoadMapValue(asm.R1, counts, 0),
		asm.Mov.Imm(asm.R2, 1),
		asm.StoreXAdd(asm.R1, asm.R2, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol(refuse),
		asm.Return(),
		asm.Mov.Imm(asm.R0, snapLen).WithSymbol(accept),
		asm.Return(),
	)
}

// attachScreen makes s the filter of the socket, which keeps a reference to the program.
func (s *socket) attachScreen(c *screen) error {
	err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, c.program.FD())
	runtime.KeepAlive(c)
	if err != nil {
		return fmt.Errorf("SO_ATTACH_BPF: %w", err)
	}
	return nil
}
