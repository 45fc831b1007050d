package gateway

import (
	"sync/atomic"
	"testing"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
)

// changing routes answer with a reason that the test sets.
type changing struct {
	onLink
	*change
}

type change struct {
	generation atomic.Uint64
	reason     drop.Reason
	refined    bool // the ways depend on more than the destination
}

func (c changing) Generation() uint64  { return c.generation.Load() }
func (c changing) ByDestination() bool { return !c.refined }
func (c changing) Hop6(*packet.Selector6) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, c.reason
}
func (c changing) Hop4(*packet.Selector4) (packet.Hop, bool, drop.Reason) {
	return packet.Hop{MTU: 1500}, false, c.reason
}

// Cached sources are checked again after a change of the routes, of pool4 and of the configuration, and for every
// packet if the way of a reply depends on more than the source.
func TestSourcesAreCheckedAgainAfterChanges(t *testing.T) {
	routes := changing{change: new(change)}
	g := stillWith(t, func(o *Options) {
		o.Config.SourceCheck = config.SourceCheckLoose
		o.Routes, o.Hops = routes, func() Hops { return routes }
	})
	six, four := clients(1), []packet.Frame(nil)
	drops := func(r drop.Reason) (n uint64) {
		before := g.Counters.Drops(r)
		g.workers[packet.V6].batch(six)
		if four != nil {
			g.workers[packet.V4].batch(four)
		}
		return g.Counters.Drops(r) - before
	}
	if drops(drop.UnroutedSource) != 0 {
		t.Error("a source with a route is refused")
	}
	four = frames(answers(t, g, 1))
	drops(drop.UnroutedSource)
	for name, r := range map[string]drop.Reason{"own addresses": drop.HostAddress, "a source without a route": drop.NoRoute} {
		routes.reason = r
		routes.generation.Add(1)
		want := map[drop.Reason]drop.Reason{drop.HostAddress: drop.OwnSource, drop.NoRoute: drop.UnroutedSource}[r]
		if n := drops(want); n == 0 {
			t.Errorf("%s: not refused after a change of the routes", name)
		}
		routes.reason = drop.None
		routes.generation.Add(1)
		if n := drops(want); n != 0 {
			t.Errorf("%s: %d packets are refused although the routes have changed back", name, n)
		}
	}
	routes.refined = true
	routes.generation.Add(1)
	drops(drop.OwnSource)
	routes.reason = drop.HostAddress
	if n := drops(drop.OwnSource); n != 2 {
		t.Errorf("%d of 2 packets are refused where the way of an answer depends on more than the source", n)
	}
	routes.refined, routes.reason = false, drop.None
	drops(drop.OwnSource)
	c := g.settings.conf.Load().Config
	c.Broadcasts = []packet.Addr4{{198, 51, 100, 20}}
	g.Configure(c)
	if n := drops(drop.Source4); n != 1 {
		t.Errorf("%d packets of an address are refused after it has become a broadcast address, want 1", n)
	}
	c.Broadcasts = nil
	g.Configure(c)
	drops(drop.Source4)
	entries, err := pool4.ParseRange("198.51.100.20", "1-10")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := g.Pool4.Add(entries); err != nil {
		t.Fatal(err)
	}
	if n := drops(drop.SourceInPool4); n != 1 {
		t.Errorf("%d packets of an address are refused after it has been added to pool4, want 1", n)
	}
}

// The zero addresses, which an empty cache entry contains, are refused.
func TestUnspecifiedSourcesAreRefused(t *testing.T) {
	g := still(t)
	g.workers[packet.V6].batch(clients(1))
	four := frames(answers(t, g, 1))
	h := packet.IPv4(four[0].Data)
	h.Put(packet.Fields4{TTL: 64, Proto: packet.NumUDP}, len(h), &packet.Addr4{}, h.Dst())
	g.workers[packet.V4].batch(four)
	six := clients(1)
	copy(six[0].Data[8:24], make([]byte, 16))
	g.workers[packet.V6].batch(six)
	if n := g.Counters.Drops(drop.Source4); n != 1 {
		t.Errorf("%d packets from 0.0.0.0 are refused, want 1", n)
	}
	if n := g.Counters.Drops(drop.Source6); n != 1 {
		t.Errorf("%d packets from :: are refused, want 1", n)
	}
}
