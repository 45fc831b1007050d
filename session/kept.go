package session

import (
	"encoding/binary"
	"net/netip"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// The names under which table.Files keeps the sessions and their windows.
const (
	keptName    = "sessions"
	windowsName = "windows"
)

// The lengths of a session and of its windows in a file, in bytes.
const (
	EntryLen   = 32
	WindowsLen = 16
)

// Kept is a session that an earlier process has left in a file: Slot and its EntryLen bytes, the seal, and the windows,
// or none. Binding returns what that process has left in a slot of its bindings.
type Kept struct {
	Slot    uint32
	Entry   []byte
	Seal    uint32
	Windows []byte
	Binding func(slot uint32) (bib.Kept, bool)
}

// seal stores the check word of the session in a slot: over the binding, the remote and the generation, so that neither
// the word nor the key of another session in the slot passes for this one's.
func (t *Table) seal(slot uint32, e *entry, w word) {
	if t.entries.Kept() {
		t.entries.Seal(slot, check(slot, t.bib.Check(e.binding), uint32(e.binding), e.remoteWord(), generation(e.cycle.Load(), w)))
	}
}

func (e *entry) remoteWord() uint64 {
	return uint64(binary.BigEndian.Uint32(e.remote[:]))<<32 | uint64(e.port)<<16 | uint64(e.proto)
}

func check(slot, binding, bindingSlot uint32, remote, generation uint64) uint32 {
	return table.Check(uint64(binding)<<32|uint64(bindingSlot), remote, generation, uint64(slot))
}

// KeptState is what ReadKept has found in a slot.
type KeptState uint8

// The states.
const (
	KeptNothing KeptState = iota // no session
	KeptDamaged                  // an entry whose parts do not belong together
	KeptSession
)

// Kept reports whether sessions outlive the process, and Unkept how many slots do not for lack of room.
func (t *Table) Kept() bool     { return t.entries.Kept() }
func (t *Table) Unkept() uint32 { return t.entries.Unkept() }

// ActiveSince reports whether a packet has refreshed the session since a time on the clock of the process that has left it.
func (k *Kept) ActiveSince(at table.Time) bool {
	return word(binary.NativeEndian.Uint64(k.Entry)).since() >= at+origin
}

// ReadKept decodes a session in a file to a record, for Restore. now is the time on the clock of the process that has
// left it. prefix returns the NAT64 prefix to which that process has given a number. Lifetimes are the timeouts of t.
//
//	0 word (8)   8 binding (4)   12 remote (4), port (2)   18 protocol   24 inbound (4)   28 cycle (4)
//
// All but the address of the remote is in the order of the machine.
func (t *Table) ReadKept(k *Kept, r *Record, now table.Time, prefix func(uint8) netip.Prefix) KeptState {
	b := k.Entry
	w := word(binary.NativeEndian.Uint64(b))
	if w.state() == Closed {
		return KeptNothing
	}
	e := entry{
		binding: bib.ID(binary.NativeEndian.Uint32(b[8:])), remote: packet.Addr4(b[12:16]),
		port: binary.NativeEndian.Uint16(b[16:]), proto: packet.Proto(b[18]),
	}
	binding, ok := k.Binding(uint32(e.binding))
	cycle := binary.NativeEndian.Uint32(b[28:])
	if !ok || binding.Proto != e.proto || w.lifetime() >= lifetimes ||
		k.Seal != check(k.Slot, binding.Check, uint32(e.binding), e.remoteWord(), generation(cycle, w)) {
		return KeptDamaged
	}
	*r = Record{
		Kind: SessionRecord, Proto: e.proto, Client: binding.Client, Mapped: binding.Mapped,
		Remote: packet.Endpoint4{Addr: e.remote, Port: e.port}, Prefix: prefix(w.prefix()),
		State: w.state(), Lifetime: uint8(w.lifetime()), Inbound: binary.NativeEndian.Uint32(b[24:]) != 0,
	}
	r.Unanswered = r.Inbound && w.unanswered()
	limits := &t.policy.Load().limits
	// An established session whose lifetime is over lives for TCP_TRANS more: the sweep gives it that and sends the probe.
	if r.Remaining = w.remaining(limits, now+origin); !w.settle(now+origin, limits).expired(now+origin, limits) {
		r.Remaining = max(r.Remaining, 0)
	}
	if len(k.Windows) == WindowsLen {
		r.Windows = [2]uint64{binary.NativeEndian.Uint64(k.Windows), binary.NativeEndian.Uint64(k.Windows[8:])}
	}
	if r.check() != nil {
		return KeptDamaged
	}
	return KeptSession
}

// ReadHeld decodes a port in hold-down in the files of an earlier process to a record, for Restore. now is as for ReadKept.
// ok is false if there is none, or if it is damaged. The hold-down is as long as that of t.
func (t *Table) ReadHeld(b []byte, now table.Time) (r Record, ok bool) {
	h, ok := pool4.ReadHeld(b, now.Duration(), t.bib.Pool().HoldTime())
	return heldRecord(&h), ok
}
