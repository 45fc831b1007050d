package test

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
)

func TestPortBlocks(t *testing.T) {
	rules(t, map[string]func(*testing.T){
		"C68-13": clientsGetPortsInBlocks,
	})
}

// blockBook contains the blocks of each client according to the log.
type blockBook struct {
	mu    sync.Mutex
	has   map[netip.Addr][]pool4.Block // by client
	ended int
}

func (l *blockBook) note(batch []session.Event, _ uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range batch {
		if e.Kind == session.BlockEnded {
			l.ended++
			continue
		}
		client := netip.AddrFrom16(e.Client.Addr)
		l.has[client] = append(l.has[client], pool4.Block{Lo: e.Mapped.Port, Hi: e.LastPort})
	}
}

// of returns all blocks of a client, and the number of blocks that have ended, of any client.
func (l *blockBook) of(client netip.Addr) (made []pool4.Block, ended int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.has[client]), l.ended
}

// clientsGetPortsInBlocks opens so many flows from two networks that each needs several of the four blocks, and a
// third network gets none.
func clientsGetPortsInBlocks(t *testing.T) {
	book := &blockBook{has: map[netip.Addr][]pool4.Block{}}
	o := with(func(c *session.Config) {
		c.PortBlockSize, c.PortHoldDown = 16, 2*time.Minute
	})
	o.ports = "7008-7071" // 7008 and 7071 are the first and the last port of a block
	s := newSetting(t, o)
	s.Sessions.Observe(session.KindsOf(session.BlockMade, session.BlockEnded), book.note)
	first, neighbour := netip.MustParseAddr("2001:db8:a::1"), netip.MustParseAddr("2001:db8:a::2")
	second, third := netip.MustParseAddr("2001:db8:b::1"), netip.MustParseAddr("2001:db8:c::1")
	if n := newFlows(t, s, first, 2000, 10) + newFlows(t, s, neighbour, 2000, 10) + newFlows(t, s, second, 2000, 20); n != 40 {
		t.Fatalf("%d flows passed, want 40", n)
	}
	if n := newFlows(t, s, third, 2000, 1); n != 0 || s.Counters.Drops(drop.PoolExhausted) != 1 {
		t.Error("a third network got a port, though all blocks have owners")
	}
	for network, host := range map[string]netip.Addr{"2001:db8:a::": first, "2001:db8:b::": second} {
		client := netip.MustParseAddr(network)
		var blocks []pool4.Block
		s.eventually(t, func() bool { blocks, _ = book.of(client); return len(blocks) == 2 })
		for _, b := range s.bindings() {
			if netip.AddrFrom16(b.Client.Addr) == host && !covered(blocks, b.Mapped.Port) {
				t.Errorf("%v has port %d, which is in none of its blocks %v", host, b.Mapped.Port, blocks)
			}
		}
	}

	s.advance(301 * time.Second)
	s.eventually(t, func() bool { return s.Bindings.Len(packet.UDP) == 0 })
	if _, ended := book.of(first); ended != 0 {
		t.Errorf("%d blocks have ended while their ports rest", ended)
	}
	s.advance(121 * time.Second)
	s.eventually(t, func() bool { _, ended := book.of(first); return ended == 4 })
	only(t, s.send(packet.V6, ip6(third, serverAs6, packet.NumUDP, udp(2000, 53, 4))), packet.V4)
}

func covered(blocks []pool4.Block, port uint16) bool {
	for _, b := range blocks {
		if b.Lo <= port && port <= b.Hi {
			return true
		}
	}
	return false
}
