package afpacket

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// snapLen is more than any frame that we take, so that the filter truncates none.
const snapLen = 1 << 18

// refuseAll is the filter of a socket that is not ready yet.
var refuseAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

// filter returns the program by which the kernel chooses the packets of a port, before any work is done for the
// others. By then it has moved a VLAN tag from the frame to its metadata, so a tagged frame looks like an untagged
// one: the tag must be asked for. What is not addressed to this host's NIC (multicast, another's frame on a NIC in
// promiscuous mode) is not for a router either.
func filter(f Family) ([]bpf.RawInstruction, error) {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto}, // the EtherType, without a look at the frame, which is not in the cache yet
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: f.etherType(), SkipTrue: 5},
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.PACKET_HOST, SkipTrue: 3},
		bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 1},
		bpf.RetConstant{Val: snapLen},
		bpf.RetConstant{Val: 0},
	})
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
