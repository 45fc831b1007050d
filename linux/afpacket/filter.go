//go:build linux

package afpacket

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// snapLen is more than any frame that we take, so that the filter truncates none.
const snapLen = 1 << 20

// refuseAll is the filter of a socket that is not ready yet.
var refuseAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

// vlanID is the part of a tag (TCI) that numbers the VLAN. A frame of VLAN 0 belongs to none: its tag carries a priority only
// (IEEE 802.1Q, priority-tagged), and it is received as if it had no tag.
const vlanID = 0x0fff

// Where the tags that are still in a frame lie, and the EtherType behind each. The kernel has moved the outermost tag to the
// metadata; maxTags more are looked at.
const (
	firstTag = 14
	tagLen   = 4
	maxTags  = 2
)

// filter returns the program by which the kernel chooses the packets of a port, before any work is done for the
// others. By then it has moved a VLAN tag from the frame to its metadata, so a tagged frame looks like an untagged
// one: the tag must be asked for. What is not addressed to this host's NIC (multicast, another's frame on a NIC in
// promiscuous mode) is not for a router either. A ring has a screen instead, which decides alike.
func filter(f Family) ([]bpf.RawInstruction, error) {
	const refuse = "refuse"
	p := classic{}
	p.add(bpf.LoadExtension{Num: bpf.ExtType})
	p.jump(bpf.JumpNotEqual, unix.PACKET_HOST, refuse)
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	p.jump(bpf.JumpEqual, 0, "type")
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	p.jump(bpf.JumpBitsSet, vlanID, refuse)
	p.label("type")
	p.add(bpf.LoadExtension{Num: bpf.ExtProto}) // the EtherType, without a look at the frame, which is not in the cache yet
	p.jump(bpf.JumpEqual, f.etherType(), "accept")
	for n := range uint32(maxTags) {
		p.jump(bpf.JumpEqual, unix.ETH_P_8021Q, fmt.Sprint("tag", n))
		p.jump(bpf.JumpNotEqual, unix.ETH_P_8021AD, refuse)
		p.label(fmt.Sprint("tag", n))
		p.add(bpf.LoadAbsolute{Off: firstTag + n*tagLen, Size: 2})
		p.jump(bpf.JumpBitsSet, vlanID, refuse)
		p.add(bpf.LoadAbsolute{Off: firstTag + n*tagLen + 2, Size: 2})
		p.jump(bpf.JumpEqual, f.etherType(), "accept")
	}
	p.label(refuse)
	p.add(bpf.RetConstant{Val: 0})
	p.label("accept")
	p.add(bpf.RetConstant{Val: snapLen})
	return p.assemble()
}

// classic is a classic BPF program whose jumps name their targets. A jump goes forward, to a label that is placed later.
type classic struct {
	code    []bpf.Instruction
	targets map[int]string // by the number of a jump
	labels  map[string]int
}

func (p *classic) add(i bpf.Instruction) { p.code = append(p.code, i) }

func (p *classic) label(name string) {
	if p.labels == nil {
		p.labels = map[string]int{}
	}
	p.labels[name] = len(p.code)
}

// jump goes to a label if the condition holds.
func (p *classic) jump(c bpf.JumpTest, value uint32, label string) {
	if p.targets == nil {
		p.targets = map[int]string{}
	}
	p.targets[len(p.code)] = label
	p.add(bpf.JumpIf{Cond: c, Val: value})
}

func (p *classic) assemble() ([]bpf.RawInstruction, error) {
	for at, label := range p.targets {
		j := p.code[at].(bpf.JumpIf)
		j.SkipTrue = uint8(p.labels[label] - at - 1)
		p.code[at] = j
	}
	program, err := bpf.Assemble(p.code)
	if err != nil {
		return nil, fmt.Errorf("packet filter: %w", err)
	}
	return program, nil
}

// attach puts the filter on the socket.
func (s *socket) attach(program []bpf.RawInstruction) error {
	p := unix.SockFprog{
		Len: uint16(len(program)),
		// Both types are struct sock_filter of linux/filter.h.
		Filter: (*unix.SockFilter)(unsafe.Pointer(&program[0])),
	}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &p); err != nil {
		return fmt.Errorf("SO_ATTACH_FILTER: %w", err)
	}
	return nil
}
