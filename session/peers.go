package session

import (
	"encoding/binary"
	"runtime"
	"sync/atomic"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/table"
)

// peers counts the sessions of each binding with each IPv4 address, with any port, for address-dependent filtering (RFC
// 6146 section 3.5.1). The table has peers only while that mode is on, each time of a new generation; a session holds
// the generation that counts it. The lock of a row is always the last lock taken. An expired session counts until the
// sweep removes it.
type peers struct {
	generation table.Generation // never 0
	rows       *table.Counted[pair, atomic.Uint32]
}

// pair is the key of a row: a binding and an address.
type pair struct {
	binding bib.ID
	addr    packet.Addr4
}

// Hash returns the keyed hash of a pair.
func (p pair) Hash(key table.Key) uint64 {
	return key.Hash(uint64(p.binding), uint64(binary.BigEndian.Uint32(p.addr[:])), 1)
}

func newPeers(max int64, key table.Key, e *table.Epochs) *peers {
	return &peers{rows: table.NewCounted[pair, atomic.Uint32](int(max), key, e)}
}

// has reports whether a binding has a session with an address. It takes no lock and is for workers in a batch.
func (p *peers) has(id bib.ID, a packet.Addr4) bool {
	defer runtime.KeepAlive(p) // the caller's may be the last reference
	n := p.rows.Find(pair{id, a})
	return n != nil && n.Load() != 0
}

// add counts a session. It returns false if there is no room.
func (p *peers) add(id bib.ID, a packet.Addr4) bool {
	return p.rows.Update(pair{id, a}, func(n *atomic.Uint32) bool { n.Add(1); return true })
}

// remove gives back a session that add has counted.
func (p *peers) remove(id bib.ID, a packet.Addr4) {
	p.rows.Update(pair{id, a}, func(n *atomic.Uint32) bool { return n.Add(^uint32(0)) != 0 })
}
