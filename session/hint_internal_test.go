package session

import (
	"encoding/binary"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// In a larger table nearly every hint is the location of the binding and the session.
func TestHintsAreCorrect(t *testing.T) {
	t.Parallel()
	const n, together = 50 * 64, 64
	bindings, s, epochs := newTables(t, "1024-65535", n)
	server := packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}
	six, four, hints := make([]Flow, n), make([]Flow, n), make([]Hint, n)
	epochs.Enter(0)
	defer epochs.Leave(0)
	for i := range six {
		f := &six[i]
		f.Proto, f.Remote = packet.UDP, server
		f.Client.Port = uint16(1024 + i%64)
		binary.BigEndian.PutUint32(f.Client.Addr[12:], uint32(i/64))
		if r := s.From6(f, &Packet{Event: packet.Other}); r != drop.None {
			t.Fatal(r)
		}
		four[i] = Flow{Proto: packet.UDP, Remote: server, Mapped: f.Mapped}
	}
	for side, ahead := range map[string]func(from, to int){
		"IPv6": func(from, to int) { s.Ahead6(six[from:to], hints[from:to]) },
		"IPv4": func(from, to int) { s.Ahead4(four[from:to], hints[from:to]) },
	} {
		right := 0
		clear(hints)
		for i := 0; i < n; i += together {
			ahead(i, i+together)
		}
		for i := range hints {
			id := bindings.Find6(packet.UDP, &six[i].Client)
			slot, _ := s.find(s.index.Find(s.hash(id, server)), id, server)
			if id != 0 && slot != 0 && hints[i].binding == id && hints[i].session == slot {
				right++
			}
		}
		if right < n*95/100 {
			t.Errorf("from %s: %d of %d hints are right", side, right, n)
		}
	}
}
