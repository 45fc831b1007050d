//go:build linux

package guard

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// families are the address families that a program handles.
type families struct {
	v6, v4 bool
	all    bool // every packet is dropped
}

// Verdicts of a program (enum tcx_action_base).
const (
	tcxNext = -1
	tcxDrop = 2
)

// Fields of struct __sk_buff.
const (
	skbProtocol = 16
	skbTagged   = 20
	skbTag      = 24
)

// Offsets from the frame pointer of the data that a program reads from a packet, and of the search keys.
const (
	key       = -16 // of an address
	portKey   = -24 // group, protocol and port
	index     = -28 // of an entry
	transHead = -40 // 8 bytes of the transport header
	ipHead    = -64 // 20 bytes of the IPv4 header, or an IPv6 destination
)

// newProgram loads a program that drops the packets covered by c.
func newProgram(f families, c *cover) (*ebpf.Program, error) {
	b := builder{}
	defer b.close()
	if !f.all {
		b.begin(f)
	}
	if f.v4 && !f.all {
		addresses, ports := tables4(c)
		b.ip4(&addresses, &ports)
	}
	if f.v6 && !f.all {
		spans := table6(c)
		b.ip6(&spans)
	}
	b.end(f)
	if b.err != nil {
		return nil, b.err
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "nat64d_guard", Type: ebpf.SchedCLS, License: "MIT", Instructions: b.code})
	if err != nil {
		return nil, fmt.Errorf("BPF program: %w", err)
	}
	return p, nil
}

// builder assembles a program.
type builder struct {
	code   asm.Instructions
	symbol string // of the next instruction
	maps   []*ebpf.Map
	err    error // the first error of creating a map
}

// close closes the maps. The program keeps references to them.
func (b *builder) close() {
	for _, m := range b.maps {
		m.Close()
	}
}

func (b *builder) emit(list ...asm.Instruction) {
	for _, i := range list {
		if b.symbol != "" {
			i, b.symbol = i.WithSymbol(b.symbol), ""
		}
		b.code = append(b.code, i)
	}
}

// begin jumps to the code for the packet's family. Frames of a VLAN pass; VLAN ID 0 means no VLAN.
func (b *builder) begin(f families) {
	b.symbol = "guard"
	b.emit(
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, skbTagged, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "untagged"),
		asm.LoadMem(asm.R1, asm.R6, skbTag, asm.Word),
		asm.And.Imm(asm.R1, 0xfff),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R7, asm.R6, skbProtocol, asm.Word).WithSymbol("untagged"),
		asm.HostTo(asm.BE, asm.R7, asm.Half),
	)
	if f.v4 {
		b.emit(asm.JEq.Imm(asm.R7, unix.ETH_P_IP, "ip4"))
	}
	if f.v6 {
		b.emit(asm.JEq.Imm(asm.R7, unix.ETH_P_IPV6, "ip6"))
	}
	b.emit(asm.Ja.Label("pass"))
}

// ip4 drops a packet whose address is in a group and whose port or Identifier is in that group.
func (b *builder) ip4(addresses, ports *keyTable) {
	b.symbol = "ip4"
	b.read(ipHead, 20, func() { b.emit(asm.Mov.Imm(asm.R2, 0)) })
	b.emit(
		asm.LoadMem(asm.R1, asm.RFP, ipHead+6, asm.Half), // fragments other than the first have no ports
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.And.Imm(asm.R1, 0x1fff),
		asm.JNE.Imm(asm.R1, 0, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, ipHead+ip4Daddr, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.RFP, key, asm.R1, asm.Word),
	)
	b.search(addresses, key)
	b.emit(
		asm.LoadMem(asm.R1, asm.R0, 8, asm.Word), // the group
		asm.StoreMem(asm.RFP, portKey+4, asm.R1, asm.Word),
		asm.LoadMem(asm.R8, asm.RFP, ipHead+9, asm.Byte), // the protocol
		asm.LoadMem(asm.R7, asm.RFP, ipHead, asm.Byte),
		asm.And.Imm(asm.R7, 15),
		asm.LSh.Imm(asm.R7, 2), // the length of the header
	)
	b.read(transHead, 8, func() { b.emit(asm.Mov.Reg(asm.R2, asm.R7)) })
	b.emit(
		asm.LoadMem(asm.R1, asm.RFP, transHead+transportTo, asm.Half),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_TCP, "port"),
		asm.JEq.Imm(asm.R8, unix.IPPROTO_UDP, "port"),
		asm.JNE.Imm(asm.R8, unix.IPPROTO_ICMP, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, transHead+icmpTypeAt, asm.Byte),
		asm.JNE.Imm(asm.R1, echoRequestType, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, transHead+icmpIDAt, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half).WithSymbol("port"),
		asm.LSh.Imm(asm.R8, 16),
		asm.Or.Reg(asm.R8, asm.R1),
		asm.StoreMem(asm.RFP, portKey, asm.R8, asm.Word),
	)
	b.search(ports, portKey)
	b.emit(asm.Ja.Label("drop"))
}

// ip6 drops a packet whose destination is covered.
func (b *builder) ip6(spans *keyTable) {
	b.symbol = "ip6"
	b.read(ipHead, 16, func() { b.emit(asm.Mov.Imm(asm.R2, ip6Daddr)) })
	for w := range int16(4) {
		b.emit(
			asm.LoadMem(asm.R1, asm.RFP, ipHead+4*w, asm.Word),
			asm.HostTo(asm.BE, asm.R1, asm.Word),
			asm.StoreMem(asm.RFP, key+4*(3-w), asm.R1, asm.Word),
		)
	}
	b.search(spans, key)
	b.emit(asm.Ja.Label("drop"))
}

func (b *builder) end(f families) {
	b.symbol = "drop"
	b.emit(asm.Mov.Imm(asm.R0, tcxDrop), asm.Return())
	if !f.all {
		b.emit(asm.Mov.Imm(asm.R0, tcxNext).WithSymbol("pass"), asm.Return())
	}
}

// read copies n bytes of the packet to the stack. from computes their offset from the IP header into R2. A packet
// that is too short passes.
func (b *builder) read(to, n int32, from func()) {
	b.emit(asm.Mov.Reg(asm.R1, asm.R6))
	from()
	b.emit(
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, to),
		asm.Mov.Imm(asm.R4, n),
		asm.Mov.Imm(asm.R5, 1), // BPF_HDR_START_NET
		asm.FnSkbLoadBytesRelative.Call(),
		asm.JNE.Imm(asm.R0, 0, "pass"),
	)
}

// search finds the table entry that contains the key at offset at from the frame pointer, and sets R0 to it. Without
// an entry the packet passes. The binary search has no branches, because the verifier would follow both ways of each,
// which is as many paths as there are entries. R9 counts the entries that begin at or before the key.
func (b *builder) search(t *keyTable, at int16) {
	m, err := t.load()
	if err != nil {
		b.err = errors.Join(b.err, err)
		return
	}
	b.maps = append(b.maps, m)
	b.emit(asm.Mov.Imm(asm.R9, 0))
	for bit := t.bits() - 1; bit >= 0; bit-- {
		b.entry(m, int32(1<<bit-1))
		b.below(func(w int16) {
			b.emit(asm.LoadMem(asm.R4, asm.RFP, at+4*w, asm.Word), asm.LoadMem(asm.R5, asm.R0, 4*w, asm.Word))
		}, t.words)
		b.emit(asm.Xor.Imm(asm.R3, 1), asm.LSh.Imm(asm.R3, int32(bit)), asm.Add.Reg(asm.R9, asm.R3))
	}
	b.emit(asm.JEq.Imm(asm.R9, 0, "pass"))
	b.entry(m, -1)
	b.below(func(w int16) {
		b.emit(asm.LoadMem(asm.R4, asm.R0, 4*(t.words+w), asm.Word), asm.LoadMem(asm.R5, asm.RFP, at+4*w, asm.Word))
	}, t.words)
	b.emit(asm.JNE.Imm(asm.R3, 0, "pass"))
}

// entry sets R0 to the entry with index R9 + more.
func (b *builder) entry(m *ebpf.Map, more int32) {
	b.emit(
		asm.Mov.Reg(asm.R1, asm.R9),
		asm.Add.Imm(asm.R1, more),
		asm.StoreMem(asm.RFP, index, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, index),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "pass"), // never taken, but the verifier requires the check
	)
}

// below sets R3 to 1 if one number is less than another, otherwise to 0. pair loads a word of each into R4 and R5,
// least significant first.
func (b *builder) below(pair func(w int16), words int16) {
	b.emit(asm.Mov.Imm(asm.R3, 0)) // borrow
	for w := range words {
		pair(w)
		b.emit(asm.Sub.Reg(asm.R4, asm.R5), asm.Sub.Reg(asm.R4, asm.R3), asm.RSh.Imm(asm.R4, 63), asm.Mov.Reg(asm.R3, asm.R4))
	}
}
