package bib

import (
	"encoding/binary"

	"nat64d/packet"
	"nat64d/table"
)

// keptName is the name under which table.Files keeps the bindings.
const keptName = "bindings"

// EntryLen is the length of a binding in a file, in bytes.
const EntryLen = 32

// Kept is a binding that an earlier process has left in a file.
type Kept struct {
	Proto  packet.Proto
	Client packet.Endpoint6
	Mapped packet.Endpoint4
	Check  uint32 // part of the check words of its sessions
}

// check returns the check word of the binding in a slot. It covers the fields that stay while the binding lives.
func check(slot uint32, b *Binding) uint32 {
	addr := &b.Client.Addr
	ports := uint64(b.Client.Port)<<48 | uint64(binary.BigEndian.Uint32(b.Mapped.Addr[:]))<<16 | uint64(b.Mapped.Port)
	return table.Check(binary.BigEndian.Uint64(addr[:8]), binary.BigEndian.Uint64(addr[8:]), ports, uint64(slot)<<8|uint64(b.Proto))
}

// Check returns the check word of a binding that the caller has found in its batch, or acquired.
func (t *Table) Check(id ID) uint32 {
	b := t.At(id)
	return check(uint32(id), &b)
}

// Kept reports whether bindings outlive the process, and Unkept how many slots do not for lack of room.
func (t *Table) Kept() bool     { return t.entries.Kept() }
func (t *Table) Unkept() uint32 { return t.entries.Unkept() }

// ReadKept decodes the binding in a slot of a file, given its EntryLen bytes and its seal. ok is false if nothing is
// there or if it is damaged. It also decodes bindings that have ended: their sessions have, too.
//
//	0 client (16), port (2)   18 mapped (4), port (2)   24 protocol
//
// Ports are in the order of the machine.
func ReadKept(slot uint32, b []byte, seal uint32) (k Kept, ok bool) {
	k = Kept{
		Client: packet.Endpoint6{Addr: packet.Addr6(b[:16]), Port: binary.NativeEndian.Uint16(b[16:])},
		Mapped: packet.Endpoint4{Addr: packet.Addr4(b[18:22]), Port: binary.NativeEndian.Uint16(b[22:])},
		Proto:  packet.Proto(b[24]),
		Check:  seal,
	}
	return k, k.Proto < packet.Protos && seal == check(slot, &Binding{Proto: k.Proto, Client: k.Client, Mapped: k.Mapped})
}
