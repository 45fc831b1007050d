package pool4

import (
	"encoding/binary"
	"time"

	"nat64d/packet"
)

// Pieces provides memory that outlives the process. The pool calls the methods under a lock, so they must not call it.
type Pieces interface {
	Piece() []byte // PieceLen zeros, or nil if there is no room
	Free(b []byte) // takes back a result of Piece
}

// HeldLen is the length of a held port in a piece, and PieceLen that of a piece, in bytes.
const (
	HeldLen  = 32
	PieceLen = 1024 * HeldLen
)

// KeepHeld makes the pool keep the ports in hold-down in pieces, for ReadHeld. The ports for which there is no piece are
// on Go's heap. The call precedes all other uses of the pool.
func (p *Pool) KeepHeld(pieces Pieces) { p.held.pieces = pieces }

// HoldTime returns how long a port is held down.
func (p *Pool) HoldTime() time.Duration { return p.conf.Load().HoldDown }

// heldPort is a port in hold-down. A zero owner means that the port is in no port block.
type heldPort struct {
	addr  uint32
	port  uint16
	proto packet.Proto
	owner packet.Addr6
	seq   uint32 // number of its place in the queue, modulo 2^32; known only when it leaves
}

// heldEntry is a port in a segment, without pointers, because all ports of pool4 may be held down:
//
//	0 address (4), port (2), protocol, state   8 since (4)   12 check (4)   16 owner (16)
//
// since counts ticks on the clock of Expire, modulo 2^32; 0 means that no call of Expire has followed yet. check covers
// the fields that never change: address, port, protocol and owner. The address is in network order, all else in the
// order of the machine. A process can end between any two stores, so set writes the state last.
type heldEntry []byte

// The states of an entry.
const (
	entryFree = iota
	entryHeld
)

// tick is the unit of heldEntry's since.
const tick = time.Second / 16

func (e heldEntry) set(h heldPort) {
	binary.BigEndian.PutUint32(e, h.addr)
	binary.NativeEndian.PutUint16(e[4:], h.port)
	e[6] = byte(h.proto)
	copy(e[16:], h.owner[:])
	binary.NativeEndian.PutUint32(e[12:], e.check())
	e[7] = entryHeld
}

// setSince rounds up, so that no later process ends the hold-down too early.
func (e heldEntry) setSince(since time.Duration) {
	binary.NativeEndian.PutUint32(e[8:], max(1, ticks(since+tick-1)))
}

func (e heldEntry) free()        { e[7] = entryFree }
func (e heldEntry) isFree() bool { return e[7] == entryFree }

func (e heldEntry) port() heldPort {
	return heldPort{
		addr:  binary.BigEndian.Uint32(e),
		port:  binary.NativeEndian.Uint16(e[4:]),
		proto: packet.Proto(e[6]),
		owner: packet.Addr6(e[16:32]),
	}
}

// check mixes the words one by one, with the finalizer of MurmurHash3.
func (e heldEntry) check() uint32 {
	p := e.port()
	h := uint64(p.addr)<<32 | uint64(p.port)<<16 | uint64(p.proto) + 1
	for _, x := range [...]uint64{0, binary.NativeEndian.Uint64(e[16:]), binary.NativeEndian.Uint64(e[24:])} {
		h = (h ^ x) * 0xff51afd7ed558ccd
		h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
		h ^= h >> 33
	}
	return uint32(h)
}

// ticks rounds down. A restored port can have a time before the clock's zero, which wraps.
func ticks(d time.Duration) uint32 {
	n := int64(d / tick)
	if d%tick < 0 {
		n--
	}
	return uint32(n)
}

// ReadHeld decodes HeldLen bytes of a piece that an earlier process has left. now is the time on the clock of that process,
// and hold its Config.HoldDown. ok is false if no port is there or if it is damaged. Remaining is negative if the
// hold-down is over.
func ReadHeld(b []byte, now, hold time.Duration) (h HeldPort, ok bool) {
	if len(b) < HeldLen {
		return h, false
	}
	e := heldEntry(b[:HeldLen])
	p := e.port()
	if e[7] != entryHeld || p.proto >= packet.Protos || p.proto == packet.TCP || binary.NativeEndian.Uint32(e[12:]) != e.check() {
		return h, false
	}
	h = HeldPort{Proto: p.proto, At: packet.Endpoint4{Addr: addr4Of(p.addr), Port: p.port}, Remaining: hold}
	h.Owner, h.Owned = p.owner, p.owner != packet.Addr6{}
	if since := binary.NativeEndian.Uint32(e[8:]); since != 0 {
		h.Remaining -= max(0, time.Duration(int32(ticks(now)-since))*tick)
	}
	return h, true
}
