package session_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// TestConcurrentConfiguration hammers flows, stored SYNs included, while every option that counts sessions is switched
// on and off and on again. In the end the counts must be right, and the log must say the same as the tables.
func TestConcurrentConfiguration(t *testing.T) {
	t.Parallel()
	for _, block := range []int{0, 16} {
		t.Run(fmt.Sprintf("port blocks of %d", block), func(t *testing.T) {
			t.Parallel()
			concurrentConfiguration(t, block)
		})
	}
}

func concurrentConfiguration(t *testing.T, block int) {
	const (
		workers = 4
		rounds  = 4_000
	)
	var log ledger
	c := defaults
	c.PortBlockSize = block
	c.MaxPerClient, c.AddressDependent = 1000, true
	c.MaxInbound, c.MaxInboundPerClient, c.MaxInboundPerBinding = 40, 30, 4
	g := newGateway(t, workers, 1000, c, "192.0.2.1", "2000-2039")
	g.sessions.Observe(^session.Kinds(0), log.note)
	clock := fastClock()
	var wg, others sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				g.mix(w, i, clock)
				if i%64 == 0 {
					g.sessions.Deliver()
				}
			}
		})
	}
	stop := make(chan struct{})
	others.Go(func() { g.reconfigure(stop, c, clock) })
	others.Go(func() { g.administer(t, stop) })
	wg.Wait()
	close(stop)
	others.Wait()

	g.sessions.Configure(c)
	g.checkLimits(t, c, clock())
	g.checkPeers(t, clock())
	g.sessions.Deliver()
	sessions, bindings := log.alive(session.SessionMade, session.SessionEnded), log.alive(session.BindingMade, session.BindingEnded)
	if s, b := g.sizes(); sessions != s || bindings != b || log.lost.Load() != 0 {
		t.Errorf("%d sessions and %d bindings, by the events %d and %d; %d were lost", s, b, sessions, bindings, log.lost.Load())
	}
	g.sweep(clock() + seconds(8000)) // ESTABLISHED for two hours, TRANS for four minutes
	g.sweep(clock() + seconds(9000)) // and held ports
	if n := g.sessions.InboundLen(); n != 0 {
		t.Errorf("%d sessions from IPv4 are still counted", n)
	}
	g.sweepSYNs(clock() + seconds(9000))
	if s, b := g.sizes(); s != 0 || b != 0 || g.syns.Len() != 0 {
		t.Errorf("%d sessions and %d bindings are left", s, b)
	}
	g.sessions.Deliver()
	if n := log.alive(session.BlockMade, session.BlockEnded); n != 0 {
		t.Errorf("the log has %d port blocks too many", n)
	}
	for _, u := range g.pool.Usage() {
		if u.Used != 0 || u.Held != 0 {
			t.Errorf("%v: %d ports are still in use, %d held", u.Entry, u.Used, u.Held)
		}
	}
}

// ledger counts what lives according to the log.
type ledger struct {
	counts [session.BlockEnded + 1]atomic.Int64
	lost   atomic.Int64
}

func (l *ledger) note(batch []session.Event, lost uint64) {
	l.lost.Add(int64(lost))
	for _, e := range batch {
		l.counts[e.Kind].Add(1)
	}
}

// alive returns how many things live, as two kinds of events tell.
func (l *ledger) alive(made, ended session.EventKind) int {
	return int(l.counts[made].Load() - l.counts[ended].Load())
}

// mix sends a packet from a client, an answer from the same address and another port, and a SYN from a stranger.
func (g *gateway) mix(w, i int, clock func() table.Time) {
	g.epochs.Enter(w)
	defer g.epochs.Leave(w)
	p := packet.Proto(i % 3)
	c := endpoint6("2001:db8::1", uint16(2000+i*7%50))
	c.Addr[7] = byte(i % 3)
	remote := endpoint4("198.51.100.1", uint16(i%4))
	var hint [1]session.Hint
	g.sessions.Ahead6([]session.Flow{{Proto: p, Client: c, Remote: remote}}, hint[:])
	if at, r := g.hinted6(&hint[0], p, &c, remote, uint8(i%2), packet.TCPEvent((i+w)%4), clock()); r == drop.None {
		remote.Port += 100
		g.sessions.Ahead4([]session.Flow{{Proto: p, Remote: remote, Mapped: at}}, hint[:])
		g.hinted4(&hint[0], p, remote, at, packet.SYN, clock())
		segment := session.Segment{Event: packet.TCPEvent(i % 4), Seq: uint32(i), Ack: uint32(w), HasAck: i%5 > 0, Window: 1000}
		g.tcp6(&c, remote, 0, &segment, clock())
		g.tcp4(remote, at, &segment, clock())
	}
	stranger, at := endpoint4("198.51.100.2", uint16(i%4)), endpoint4("192.0.2.1", uint16(2000+i%40))
	if _, _, r := g.send4(packet.TCP, stranger, at, packet.SYN, clock()); r == drop.StoredSYN {
		g.syns.Add(stranger, at, []byte("SYN"), clock().Duration())
		g.send6(packet.TCP, &c, stranger, 0, packet.SYN, clock())
	}
	g.sessions.Peek4(&session.Flow{Proto: p, Mapped: at, Remote: stranger})
	g.sessions.Known(session.Flow{Proto: p, Mapped: at, Remote: stranger})
}

// reconfigure switches options, and sweeps, until stop is closed.
func (g *gateway) reconfigure(stop chan struct{}, c session.Config, clock func() table.Time) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		c.AddressDependent = i%2 == 0
		c.MaxPerClient = i / 2 % 2 * 1000
		c.ClientPrefixLen = 64 + i/4%2*64
		c.PortHoldDown = time.Duration(i%3) * time.Second
		c.CheckSequence = i%8 < 5
		g.sessions.Configure(c)
		g.sweep(clock())
		g.sweepSYNs(clock())
	}
}

// administer purges, and adds and removes static bindings, until stop is closed.
func (g *gateway) administer(t *testing.T, stop chan struct{}) {
	at := endpoint4("192.0.2.1", 2010)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		p := packet.Proto(i % 3)
		if g.sessions.AddStatic(p, endpoint6("2001:db8::2", 80), at) == nil {
			if b, _ := g.sessions.Purge(func(b bib.Binding) bool { return b.Static }); b != 1 {
				t.Errorf("%d static bindings have ended, want 1", b)
			}
		}
		g.sessions.PurgePrefix(1)
		g.sessions.Purge(func(b bib.Binding) bool { return int(b.Mapped.Port)%40 == i%40 })
		g.syns.List(0)
	}
}

// checkLimits finds out by a limit how many sessions each client has for bib.
func (g *gateway) checkLimits(t *testing.T, c session.Config, now table.Time) {
	t.Helper()
	for _, s := range g.list(0) { // unanswered sessions would be evicted for others
		g.from6(s.Proto, s.Client, s.Remote, packet.SYN, now)
		g.from6(s.Proto, s.Client, s.Remote, packet.Other, now)
	}
	have := make(map[byte][]session.Session)
	for _, s := range g.list(0) { // at time 0, nothing is over
		have[s.Client.Addr[7]] = append(have[s.Client.Addr[7]], s)
	}
	for last, all := range have {
		open := func(port uint16) drop.Reason {
			_, r := g.from6(all[0].Proto, all[0].Client, endpoint4("198.51.100.3", port), packet.SYN, now)
			return r
		}
		c.MaxPerClient = len(all) + 1
		g.sessions.Configure(c)
		want := drop.ClientSessions
		if all[0].Proto == packet.ICMP {
			want = drop.None // there are no ports
		}
		if a, b := open(1), open(2); a != drop.None || b != want {
			t.Errorf("client %d with %d sessions: reasons %v and %v for two more", last, len(all), a, b)
		}
	}
}

// checkPeers compares what address-dependent filtering lets in with the sessions there are.
func (g *gateway) checkPeers(t *testing.T, now table.Time) {
	t.Helper()
	type pair struct {
		mapped packet.Endpoint4
		remote packet.Addr4
	}
	known := make(map[pair]bool)
	for _, s := range g.list(0) {
		if s.Proto == packet.TCP {
			known[pair{s.Mapped, s.Remote.Addr}] = true
		}
	}
	for _, b := range g.listBindings() {
		for _, addr := range []string{"198.51.100.1", "198.51.100.2", "198.51.100.4"} {
			if b.Proto != packet.TCP {
				continue
			}
			remote := endpoint4(addr, 999)
			_, r := g.from4(packet.TCP, remote, b.Mapped, packet.Other, now)
			if (r == drop.None) != known[pair{b.Mapped, remote.Addr}] {
				t.Errorf("%v from %v: reason %v, known %v", b, remote, r, r != drop.None)
			}
		}
	}
}
