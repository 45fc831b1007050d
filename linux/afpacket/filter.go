//go:build linux

package afpacket

import (
	"fmt"
	"unsafe"

	"nat64d/packet"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// snapLen exceeds the length of any accepted frame, so that the filter truncates none.
const snapLen = 1 << 20

// refuseAll is the filter of a socket during its set-up.
var refuseAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

// vlanID is the mask of the VLAN ID in a tag (TCI). A frame with VLAN ID 0 is priority-tagged (IEEE 802.1Q): it
// belongs to no VLAN, and the host receives it like an untagged frame.
const vlanID = 0x0fff

// Offsets of the tags that remain in a frame, and of the EtherType after each. The kernel has moved the outermost tag
// to the metadata; the filter examines maxTags more.
const (
	firstTag = 14
	tagLen   = 4
	maxTags  = 2
)

// filter returns the classic BPF program that selects the packets of a port, before the kernel does any other work
// for them. The kernel has moved a VLAN tag from the frame to its metadata, so a tagged frame looks like an untagged
// one: the filter must check the metadata. Frames that are not addressed to this host's NIC (multicast, or frames of
// other stations in promiscuous mode) are not for a router. A ring has a screen instead, which makes the same
// decisions.
func filter(f packet.Family) ([]bpf.RawInstruction, error) {
	const refuse = "refuse"
	p := classic{}
	p.add(bpf.LoadExtension{Num: bpf.ExtType})
	p.jump(bpf.JumpNotEqual, unix.PACKET_HOST, refuse)
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTagPresent})
	p.jump(bpf.JumpEqual, 0, "type")
	p.add(bpf.LoadExtension{Num: bpf.ExtVLANTag})
	p.jump(bpf.JumpBitsSet, vlanID, refuse)
	p.label("type")
	p.add(bpf.LoadExtension{Num: bpf.ExtProto}) // the EtherType from the metadata; the frame is not in the cache yet
	p.jump(bpf.JumpEqual, etherType(f), "accept")
	for n := range uint32(maxTags) {
		p.jump(bpf.JumpEqual, unix.ETH_P_8021Q, fmt.Sprint("tag", n))
		p.jump(bpf.JumpNotEqual, unix.ETH_P_8021AD, refuse)
		p.label(fmt.Sprint("tag", n))
		p.add(bpf.LoadAbsolute{Off: firstTag + n*tagLen, Size: 2})
		p.jump(bpf.JumpBitsSet, vlanID, refuse)
		p.add(bpf.LoadAbsolute{Off: firstTag + n*tagLen + 2, Size: 2})
		p.jump(bpf.JumpEqual, etherType(f), "accept")
	}
	p.label(refuse)
	p.add(bpf.RetConstant{Val: 0})
	p.label("accept")
	p.add(bpf.RetConstant{Val: snapLen})
	return p.assemble()
}

// classic is a classic BPF program with labels as jump targets. Jumps only go forward, to a label that is defined
// later.
type classic struct {
	code    []bpf.Instruction
	targets map[int]string // by index of the jump
	labels  map[string]int
}

func (p *classic) add(i bpf.Instruction) { p.code = append(p.code, i) }

func (p *classic) label(name string) {
	if p.labels == nil {
		p.labels = map[string]int{}
	}
	p.labels[name] = len(p.code)
}

// jump jumps to a label if the condition holds.
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

// attach attaches the filter to the socket.
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
