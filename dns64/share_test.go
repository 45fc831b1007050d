package dns64

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// take acquires up to n places for an address and returns them.
func take(t *testing.T, ps *places, addr string, n, most int) (got []*place) {
	for range n {
		if p := ps.acquire(t.Context(), netip.MustParseAddr(addr), 64, most); p != nil {
			got = append(got, p)
		}
	}
	return got
}

// lost counts the places that were taken away.
func lost(list []*place) (n int) {
	for _, p := range list {
		if p.lost() {
			n++
		}
	}
	return n
}

func TestClientsHaveAShareOfThePlaces(t *testing.T) {
	t.Parallel()
	const most = 40
	var ps places
	hog := take(t, &ps, "2001:db8:1::1", 100, most)
	if len(hog) != share(most) || lost(hog) != 0 {
		t.Fatalf("one client has %d places, want %d", len(hog), share(most))
	}
	if other := take(t, &ps, "192.0.2.1", share(most), most); len(other) != share(most) {
		t.Errorf("another has %d", len(other))
	}
	if other := take(t, &ps, "192.0.2.2", 1, most); len(other) != 1 { // in the same /64 of mapped addresses, were it one
		t.Error("a third has none")
	}
	if got := ps.limitedSince(time.Hour); len(got) != 1 || got[0] != netip.MustParsePrefix("2001:db8:1::/64") {
		t.Errorf("limited: %v", got)
	}
	for _, p := range hog {
		p.release()
		p.release()
	}
	if n := ps.taken(); n != share(most)+1 || len(ps.clients) != 2 {
		t.Errorf("%d places of %d clients are taken", n, len(ps.clients))
	}
}

// If all places of a prefix or in total are in use, a client with few places takes one from the client with the most.
func TestPlacesOfHeaviestClientAreEvicted(t *testing.T) {
	t.Parallel()
	const most = 40
	var ps places
	hog := take(t, &ps, "2001:db8:1::1", 100, most)
	if got := take(t, &ps, "2001:db8:1::2", 3, most); len(got) != 3 || lost(hog) != 3 || !hog[0].lost() || hog[len(hog)-1].lost() {
		t.Errorf("a neighbour of the hog has %d places, %d are lost", len(got), lost(hog))
	}
	for i := range 3 {
		take(t, &ps, fmt.Sprintf("2001:db8:2:%d::1", i), 100, most)
	}
	if ps.taken() != most {
		t.Fatalf("%d places are taken, want all", ps.taken())
	}
	if got := take(t, &ps, "2001:db8:3::1", share(most), most); len(got) < share(most)-3 || lost(got) != 0 || ps.taken() != most {
		t.Errorf("a quiet client has %d places, lost %d, %d in all", len(got), lost(got), ps.taken())
	}
	sum := 0
	for client, h := range ps.clients {
		n := 0
		for _, list := range h.addrs {
			n += len(list)
		}
		if n != h.count || n == 0 {
			t.Errorf("%v has %d places, counted %d", client, n, h.count)
		}
		sum += n
	}
	if sum != ps.taken() {
		t.Errorf("%d places, counted %d", sum, ps.taken())
	}
}

// While one client asks for names without answers, its queries fail, and others are answered as usual, even in its own prefix.
func TestFloodOfOneClient(t *testing.T) {
	t.Parallel()
	answer := zone(t, a7)
	var silent atomic.Int64
	up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		if !same(q.Question[0].Name, "h.example.com.") {
			silent.Add(1)
			return nil
		}
		return answer(w, q)
	})
	c := testConfig(t, up.udp)
	c.InFlight, c.Bits, c.Cache.Size = 40, 64, 0
	c.Clients = []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}
	f := New(c, nil)
	ask := func(from, name string) (rcode int, o outcome) {
		packet := packed(t, name, nil)
		who := client{addr: netip.MustParseAddr(from), stream: true, limit: 65535}
		_, j, o := f.answer(nil, packet, &who, time.Now())
		if o != pending {
			return 0, o
		}
		at := f.acquire(t.Context(), j.s, who.addr)
		if at == nil {
			b, o := j.fail(nil, packet, &who)
			return int(b[3] & 15), o
		}
		defer at.release()
		b, o := j.run(at, nil, packet, &who)
		return int(b[3] & 15), o
	}
	var failed atomic.Int64
	for i := range 400 {
		go func() {
			if rcode, _ := ask("2001:db8:1::1", fmt.Sprintf("x%d.example.com.", i)); rcode == dns.RcodeServerFailure {
				failed.Add(1)
			}
		}()
	}
	for deadline := time.Now().Add(3 * time.Second); failed.Load() < 300; {
		if time.Now().After(deadline) {
			t.Fatalf("%d queries of the flood failed at once", failed.Load())
		}
		time.Sleep(time.Millisecond)
	}
	for _, from := range []string{"2001:db8:2::1", "2001:db8:1::2"} {
		for range 20 {
			began := time.Now()
			if rcode, o := ask(from, "h.example.com."); rcode != dns.RcodeSuccess || o != answered || time.Since(began) > time.Second {
				t.Errorf("%s: got %s, %d after %v", from, dns.RcodeToString[rcode], o, time.Since(began))
			}
		}
	}
	if n := silent.Load(); n > 4*int64(share(c.InFlight)) {
		t.Errorf("upstreams were asked %d times about the names of the flood", n)
	}
	if got := f.Limited(); len(got) != 1 || f.Stats.counters[busy].Load() < 300 {
		t.Errorf("limited: %v, %d queries", got, f.Stats.counters[busy].Load())
	}
}

// A client has a share of the sockets regardless of its places. Queries without a client are not counted.
func TestClientsHaveAShareOfTheSockets(t *testing.T) {
	t.Parallel()
	s := newSockets(8)
	of := func(prefix string) context.Context {
		return context.WithValue(t.Context(), clientKey{}, netip.MustParsePrefix(prefix))
	}
	var releases []func()
	for _, prefix := range []string{"2001:db8:1::/64", "2001:db8:2::/64"} {
		for i := range 4 {
			release, err := s.acquire(of(prefix))
			if (err == nil) != (i < share(8)) {
				t.Errorf("%s, socket %d: %v", prefix, i, err)
			}
			if err == nil {
				releases = append(releases, release)
			}
		}
	}
	for range 4 {
		release, err := s.acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		releases = append(releases, release)
	}
	ended, cancel := context.WithCancel(of("2001:db8:3::/64"))
	cancel()
	if _, err := s.acquire(ended); err == nil {
		t.Error("there is one more than all")
	}
	for _, release := range releases {
		release()
	}
	if len(s.all) != 0 || len(s.clients) != 0 {
		t.Errorf("%d sockets, clients %v", len(s.all), s.clients)
	}
}

// from is a connection from an address.
type from struct {
	net.Conn
	addr string
}

func (c from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(c.addr), Port: 4000} }

// One client has a share of the TCP connections. Beyond it, the one that has been idle the longest is closed, even if it is busy.
func TestClientsHaveAShareOfTheStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s streams
		add := func(addr string) *stream {
			time.Sleep(time.Millisecond)
			c, _ := net.Pipe()
			return s.add(from{c, addr}, 64)
		}
		count := func(client string) (n int) {
			for st := range s.open {
				if st.client == netip.MustParsePrefix(client) {
					n++
				}
			}
			return n
		}
		quiet := add("2001:db8:2::1")
		neighbour := add("2001:db8:1::2")
		for range 2 * maxStreams {
			add("2001:db8:1::1").busy.Add(1)
		}
		if n := count("2001:db8:1::/64"); n != share(maxStreams) || !s.open[quiet] || !s.open[neighbour] {
			t.Errorf("the client has %d, the other %v, its neighbour %v", n, s.open[quiet], s.open[neighbour])
		}
		for i := range 8 {
			for range share(maxStreams) {
				add(fmt.Sprintf("2001:db8:3:%d::1", i)).busy.Add(1)
			}
		}
		if latest := add("192.0.2.1"); len(s.open) != maxStreams || !s.open[latest] || !s.open[quiet] {
			t.Errorf("%d streams; a quiet client has its own %v, a new one %v", len(s.open), s.open[quiet], s.open[latest])
		}
	})
}
