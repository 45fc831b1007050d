package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
	"nat64d/session"
)

// tapOf begins a tap that ends with the test.
func tapOf(t testing.TB, g *Gateway, o TapOptions) *Tap {
	t.Helper()
	tap, err := g.Tap(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tap.Close)
	return tap
}

// read returns what a tap has recorded, which must be something.
func read(t testing.TB, tap *Tap) []Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	list, lost, err := tap.Read(ctx)
	if err != nil || lost != 0 {
		t.Fatalf("%d lost, %v", lost, err)
	}
	return list
}

// nothing checks that a tap has recorded nothing.
func nothing(t testing.TB, tap *Tap) {
	t.Helper()
	select {
	case <-tap.wake:
		t.Error("the tap has recorded something")
	default:
	}
}

func mapped(a string) netip.AddrPort { return netip.MustParseAddrPort(a) }

func TestTapRecordsBothDirections(t *testing.T) {
	g := still(t)
	tap := tapOf(t, g, TapOptions{})
	g.workers[packet.V6].batch(clients(1))
	g.workers[packet.V4].batch(frames(answers(t, g, 1)))
	list := read(t, tap)
	if len(list) != 2 {
		t.Fatalf("%d records, want 2", len(list))
	}
	out, in := &list[0], &list[1]
	port, _ := g.Bindings.Lookup6(packet.UDP, packet.Endpoint6{Addr: netip.MustParseAddr("2001:db8::8").As16(), Port: 1})
	if out.Fate != Forwarded || out.Side != packet.V6 || !out.State.Made || out.State.Bound || out.State.After != session.Active || out.Pieces != 1 {
		t.Errorf("6to4: %+v", out)
	}
	if out.In.Source() != mapped("[2001:db8::8]:1") || out.In.Length != 66 || out.In.HopLimit != 64 || out.Flow.Mapped != port {
		t.Errorf("6to4 received: %+v", out.In)
	}
	if out.Out.Source().Port() != port.Port || out.Out.Destination() != mapped("198.51.100.20:53") || out.Out.Length != 46 || out.Out.HopLimit != 63 {
		t.Errorf("6to4 sent: %+v", out.Out)
	}
	if in.Fate != Forwarded || in.State.Made || !in.State.Bound || in.Flow != out.Flow || in.Out.Destination() != out.In.Source() || in.Hop.MTU != 1500 {
		t.Errorf("4to6: %+v", in)
	}
	if in.Prefix.String() != "64:ff9b::/96" || !in.Passed.Has(Looked|Found|InPrefix) {
		t.Errorf("4to6: prefix %v, passed %b", in.Prefix, in.Passed)
	}
}

func TestTapRecordsDropAndAnswer(t *testing.T) {
	g := stillWith(t, func(o *Options) { o.Config.Source6 = netip.MustParseAddr("2001:db8::1").As16() })
	tap := tapOf(t, g, TapOptions{Filter: Filter{Drops: true}})
	late, good := udp6(1), udp6(2)
	late[7] = 1
	g.workers[packet.V6].batch(frames([][]byte{late, good}))
	list := read(t, tap)
	if len(list) != 1 {
		t.Fatalf("%d records, want 1", len(list))
	}
	v := &list[0]
	if v.Fate != Dropped || v.Reason != drop.HopLimit || v.Answer.Type != 3 || v.Answer.Destination().Addr() != v.In.Source().Addr() || v.Out.Length != 0 {
		t.Errorf("%+v", v.Verdict)
	}
	if v.Flow.Remote.Addr != (packet.Addr4{198, 51, 100, 20}) || v.Flow.Client.Port != 1 {
		t.Errorf("the flow is %+v", v.Flow)
	}
}

func TestTapRecordsSilence(t *testing.T) {
	late := udp6(1)
	late[7] = 1
	for want, c := range map[Silence]func(*Options){
		NoWayBack:   func(*Options) {},
		NotEnabled:  func(o *Options) { o.Config.Answers = [drop.Choices]bool{} },
		RateLimited: func(o *Options) { o.Config.ErrorsTotal, o.Config.Source6 = 1, testClient },
	} {
		g := stillWith(t, c)
		tap := tapOf(t, g, TapOptions{})
		for range 30 {
			g.workers[packet.V6].batch(frames([][]byte{late}))
		}
		list := read(t, tap)
		if got := list[len(list)-1].Silence; got != want {
			t.Errorf("silence %d, want %d", got, want)
		}
	}
}

func TestTapRecordsHairpin(t *testing.T) {
	g := still(t)
	g.workers[packet.V6].batch(clients(1))
	other := packet.Endpoint6{Addr: netip.MustParseAddr("2001:db8::8").As16(), Port: 1}
	to, _ := g.Bindings.Lookup6(packet.UDP, other)
	b := udp6(9)
	src := netip.MustParseAddr("2001:db8::9").As16()
	copy(b[8:], src[:])
	copy(b[36:], to.Addr[:])
	binary.BigEndian.PutUint16(b[packet.IPv6Len+2:], to.Port)
	for _, client := range []string{"2001:db8::9/128", "2001:db8::8/128"} { // both ends are clients
		tap := tapOf(t, g, TapOptions{Filter: Filter{Client: netip.MustParsePrefix(client)}})
		g.workers[packet.V6].batch(frames([][]byte{b}))
		list := read(t, tap)
		if len(list) != 1 {
			t.Fatalf("%s: %d records, want 1", client, len(list))
		}
		v := &list[0]
		if v.Fate != Forwarded || !v.Passed.Has(Hairpins) || v.Flow.Client.Addr != src || v.Turned.Client != other || v.Out.Family != packet.V6 {
			t.Errorf("%s: %+v", client, v.Verdict)
		}
		tap.Close()
	}
}

func TestTapRecordsWaiting(t *testing.T) {
	g, out, woken := unresolved(t)
	tap := tapOf(t, g, TapOptions{Snap: 100})
	g.workers[packet.V6].batch(clients(1))
	if v := read(t, tap)[0]; v.Fate != WaitsForHop || len(v.Packets) != 1 {
		t.Errorf("before: %v, %d packets", v.Fate, len(v.Packets))
	}
	woken.Store(true)
	g.workers[packet.V6].batch(nil)
	if v := read(t, tap)[0]; v.Fate != Forwarded || !v.Waited || len(v.Packets) != 1 || !v.Packets[0].Out || len(out.outs) != 1 {
		t.Errorf("after: %v, %d packets", v.Fate, len(v.Packets))
	}
}

func TestTapCapturesBothPackets(t *testing.T) {
	out := &tape{}
	g := stillWith(t, func(o *Options) {
		o.Open = func(packet.Family, bool) (Port, error) { return out, nil }
	})
	tap := tapOf(t, g, TapOptions{Snap: MaxSnap})
	short := tapOf(t, g, TapOptions{Snap: 50})
	b := udp6(1)
	g.workers[packet.V6].batch(frames([][]byte{append(slices.Clone(b), 0, 0)})) // with padding of the link
	list, cut := read(t, tap), read(t, short)
	if len(list) != 1 || len(list[0].Packets) != 2 {
		t.Fatalf("%+v", list)
	}
	p := list[0].Packets
	left := slices.Clone(p[1].Data)
	clear(left[4:6]) // as in tape
	clear(left[10:12])
	if string(p[0].Data) != string(b) || p[0].Out || p[0].Family != packet.V6 || !p[1].Out || p[1].Family != packet.V4 || string(left) != string(out.outs[0].Payload) {
		t.Errorf("captured\n%x\n%x, want\n%x\n%x", p[0].Data, left, b, out.outs[0].Payload)
	}
	if q := cut[0].Packets; len(q) != 2 || len(q[0].Data) != 50 || q[0].Length != len(b) || len(q[1].Data) != 46 {
		t.Errorf("with a snap length of 50: %+v", q)
	}
}

func TestFiltersOfTaps(t *testing.T) {
	g := still(t)
	for name, c := range map[string]struct {
		filter Filter
		want   int // of three packets: one to 198.51.100.20, one that is dropped, one that is left to the host
	}{
		"all":              {Filter{}, 2},
		"client":           {Filter{Client: netip.MustParsePrefix("2001:db8::/64")}, 2},
		"another client":   {Filter{Client: netip.MustParsePrefix("2001:db8:1::/64")}, 0},
		"peer":             {Filter{Peer: netip.MustParsePrefix("198.51.100.0/24")}, 2},
		"another peer":     {Filter{Peer: netip.MustParsePrefix("198.51.101.0/24")}, 0},
		"port":             {Filter{Ports: []uint16{9, 53}}, 2},
		"another port":     {Filter{Ports: []uint16{54}}, 0},
		"protocol":         {Filter{Protocols: [packet.Protos]bool{packet.UDP: true}}, 2},
		"another protocol": {Filter{Protocols: [packet.Protos]bool{packet.TCP: true, packet.ICMP: true}}, 0},
		"drops":            {Filter{Drops: true}, 1},
		"reason":           {Filter{Reasons: [drop.Count]bool{drop.HopLimit: true}}, 1},
		"another reason":   {Filter{Reasons: [drop.Count]bool{drop.TooBig: true}}, 0},
		"host":             {Filter{Host: true}, 3},
		"reason of host":   {Filter{Reasons: [drop.Count]bool{drop.NotPool6: true}}, 1},
	} {
		tap := tapOf(t, g, TapOptions{Filter: c.filter})
		late, host := udp6(2), udp6(3)
		late[7], host[24] = 1, 0x20
		g.workers[packet.V6].batch(frames([][]byte{udp6(1), late, host}))
		if c.want == 0 {
			nothing(t, tap)
		} else if list := read(t, tap); len(list) != c.want {
			t.Errorf("%s: %d records, want %d", name, len(list), c.want)
		}
		tap.Close()
	}
}

// A trace of drops has the packets that the counters have as dropped.
func TestFilterOfDropsMatchesCounters(t *testing.T) {
	m := newMatcher(&Filter{Drops: true})
	for r := drop.None; r < drop.Count; r++ {
		v := Verdict{Reason: r}
		v.Fate = (&tracer{}).fate(&inflight{left: r == drop.None}, r)
		if got, want := m.fate(&v), r != drop.None && !r.Host(); got != want {
			t.Errorf("%v: %v, want %v", r, got, want)
		}
	}
}

func TestFullTapCountsLostRecords(t *testing.T) {
	g := still(t)
	tap := tapOf(t, g, TapOptions{})
	fs := clients(batch)
	room := len(tap.rings[0].slots)
	for range room/batch + 2 {
		g.workers[packet.V6].batch(fs)
	}
	list, lost, err := tap.Read(t.Context())
	if len(list) != room || lost != 2*batch || err != nil {
		t.Errorf("%d records, %d lost, %v; want %d and %d", len(list), lost, err, room, 2*batch)
	}
	g.workers[packet.V6].batch(fs)
	if list := read(t, tap); len(list) != batch {
		t.Errorf("%d records after the tap had room again", len(list))
	}
}

func TestNumberOfTapsIsBounded(t *testing.T) {
	g := still(t)
	var taps []*Tap
	for range maxTaps {
		taps = append(taps, tapOf(t, g, TapOptions{}))
	}
	if _, err := g.Tap(TapOptions{}); !errors.Is(err, ErrTaps) {
		t.Errorf("another tap: %v", err)
	}
	taps[0].Close()
	taps[0].Close() // changes nothing
	tapOf(t, g, TapOptions{}).Close()
	for _, tap := range taps {
		tap.Close()
	}
	if g.settings.taps.Load() != nil {
		t.Error("taps are left")
	}
	g.workers[packet.V6].batch(clients(1))
	if w := g.workers[packet.V6]; w.tracer != nil || w.tap != nil {
		t.Error("the worker still traces")
	}
}

// A batch with taps allocates nothing either, whether there is room in them or not.
func TestTracingDoesNotAllocate(t *testing.T) {
	g := still(t)
	for _, o := range []TapOptions{{}, {Snap: 128}, {Filter: Filter{Client: netip.MustParsePrefix("2001:db8:ffff::/48")}}} {
		tapOf(t, g, o)
	}
	forwardingAllocatesNothing(t, g)
}

// The ring keeps the bytes of verdicts apart, in any order of sizes, and loses none while its reader keeps up.
func TestRingKeepsBytes(t *testing.T) {
	r := newRing(8, 256)
	n, seen := 0, 0
	for i := range 5000 {
		size := (i*37)%120 + 1
		if b, ok := r.push(&Verdict{Frames: uint16(n)}, size); ok {
			for j := range b {
				b[j] = byte(n)
			}
			r.publish()
			n++
		}
		if i%3 == 0 {
			r.pop(func(v *Verdict, b []byte) {
				for _, c := range b {
					if c != byte(seen) {
						t.Fatalf("verdict %d has the bytes %x", seen, b)
					}
				}
				if v.Frames != uint16(seen) {
					t.Fatalf("verdict %d instead of %d", v.Frames, seen)
				}
				seen++
			})
		}
	}
	if lost := r.lost.Load(); n+int(lost) != 5000 || n < 2500 {
		t.Errorf("%d were kept, %d lost", n, lost)
	}
}

// tracing benchmarks: nothing, a trace that selects no packet, one that selects each, a capture.
func BenchmarkTaps(b *testing.B) {
	none := Filter{Client: netip.MustParsePrefix("2001:db8:ffff::/48")}
	for _, c := range []struct {
		name string
		tap  bool
		o    TapOptions
	}{
		{"off", false, TapOptions{}}, {"none", true, TapOptions{Filter: none}}, {"drops", true, TapOptions{Filter: Filter{Drops: true}}},
		{"all", true, TapOptions{}}, {"capture", true, TapOptions{Snap: MaxSnap}},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := still(b)
			if c.tap {
				tap := tapOf(b, g, c.o)
				go func() {
					for {
						if _, _, err := tap.Read(b.Context()); err != nil {
							return
						}
					}
				}()
			}
			w, fs := g.workers[packet.V6], clients(batch)
			for b.Loop() {
				w.batch(fs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/packet")
		})
	}
}

// unresolved returns a gateway whose next hops are unknown until woken is set, and what it sends.
func unresolved(t testing.TB) (g *Gateway, out *tape, woken *atomic.Bool) {
	out, woken = &tape{}, new(atomic.Bool)
	g = stillWith(t, func(o *Options) {
		a := asleep{woken: woken}
		o.Routes, o.Hops = a, func() Hops { return a }
		o.Open = func(packet.Family, bool) (Port, error) { return out, nil }
	})
	return g, out, woken
}

// Fragments that no other completes, and packets that are evicted while they wait, are recorded without their headers.
func TestTapRecordsLateLosses(t *testing.T) {
	now := time.Duration(1)
	g := stillWith(t, func(o *Options) {
		o.Clock = func() time.Duration { return now }
		o.Config.Fragments = fragment.Limits{Time: time.Second}
	})
	tap, other := tapOf(t, g, TapOptions{Filter: Filter{Drops: true}}), tapOf(t, g, TapOptions{Filter: Filter{Drops: true, Ports: []uint16{53}}})
	w := g.workers[packet.V6]
	b := udp6(1)
	piece := slices.Concat(b[:packet.IPv6Len], []byte{packet.NumUDP, 0, 0, 1, 0, 0, 0, 7}, b[packet.IPv6Len:packet.IPv6Len+16])
	binary.BigEndian.PutUint16(piece[4:], uint16(len(piece)-packet.IPv6Len))
	piece[6] = packet.NumFragment
	w.batch(frames([][]byte{piece}))
	now += time.Minute
	w.batch(nil)
	list := read(t, tap)
	if len(list) != 1 || list[0].Reason != drop.FragmentTimeout || list[0].Frames != 1 || list[0].In.Length != 0 || list[0].Fate != Dropped {
		t.Errorf("%+v", list)
	}
	nothing(t, other)
}
