package session_test

import (
	"testing"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// line is a TCP connection through a gateway that checks sequence numbers.
type line struct {
	*gateway
	conf           session.Config
	client         packet.Endpoint6
	mapped, server packet.Endpoint4
	now            table.Time
}

func newLine(t testing.TB) *line {
	c := defaults
	c.CheckSequence = true
	l := &line{gateway: newGateway(t, 1, 100, c, "192.0.2.1", ""), conf: c}
	l.client, l.server = endpoint6("2001:db8::1", 5000), endpoint4("198.51.100.1", 80)
	return l
}

// from6 and from4 send a segment and return the state of the connection.
func (l *line) from6(s session.Segment) session.State {
	l.epochs.Enter(0)
	defer l.epochs.Leave(0)
	l.mapped, _ = l.tcp6(&l.client, l.server, 0, &s, l.now)
	return l.state()
}

func (l *line) from4(s session.Segment) session.State {
	l.epochs.Enter(0)
	defer l.epochs.Leave(0)
	l.tcp4(l.server, l.mapped, &s, l.now)
	return l.state()
}

func (l *line) state() session.State {
	if all := l.list(l.now); len(all) == 1 {
		return all[0].State
	}
	return session.Closed
}

// open makes a connection with these initial sequence numbers, in which both are ready for 1,000 times 2^scale bytes.
func (l *line) open(seq6, seq4 uint32, scale uint8) session.State {
	l.from6(session.Segment{Event: packet.SYN, Seq: seq6, Window: 1000, Scale: scale})
	l.from4(session.Segment{Event: packet.SYN, Seq: seq4, Ack: seq6 + 1, HasAck: true, Window: 1000, Scale: scale})
	return l.from6(session.Segment{Seq: seq6 + 1, Ack: seq4 + 1, HasAck: true, Window: 1000})
}

// TestSegmentsOutsideTheWindow sends RST and FIN segments with every kind of sequence number.
func TestSegmentsOutsideTheWindow(t *testing.T) {
	t.Parallel()
	const window = 1000 << 8
	for _, c := range []struct {
		name  string
		after int64 // where the segment is, from the first byte that the receiver waits for
		len   uint32
		in    bool
	}{
		{"the first byte", 0, 0, true},
		{"amid the window", window / 2, 0, true},
		{"the end of the window", window, 0, true},
		{"behind the window", window + 1, 0, false},
		{"far ahead", 1 << 30, 0, false},
		{"an old byte", -1, 0, false},
		{"old data and new", -5, 6, true},
		{"old data", -5, 4, false},
		{"half a sequence space away", 1 << 31, 0, false},
	} {
		for ev, want := range map[packet.TCPEvent][2]session.State{
			packet.RST: {session.Trans, session.Trans},
			packet.FIN: {session.V6FinRcv, session.V4FinRcv},
		} {
			for _, first := range []uint32{1000, 1<<32 - 10, 1<<32 - window/2} {
				s := session.Segment{Event: ev, Seq: uint32(int64(first) + 1 + c.after), Len: c.len}
				l6, l4 := newLine(t), newLine(t)
				l6.open(first, 7, 8)
				l4.open(7, first, 8)
				for side, got := range []session.State{l6.from6(s), l4.from4(s)} {
					if (got == want[side]) != c.in || (got == session.Established) == c.in {
						t.Errorf("event %d at %s, from side %d: %v", ev, c.name, side, got)
					}
				}
			}
		}
	}
}

// TestIgnoredSegmentsDoNotRefresh: what has no effect has none on the lifetime either.
func TestIgnoredSegmentsDoNotRefresh(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.open(1, 1, 0)
	l.now = seconds(100)
	l.from4(session.Segment{Event: packet.RST, Seq: 1 << 30})
	if left := l.list(l.now)[0].Remaining.Seconds(); left != 7100 {
		t.Errorf("%v seconds are left, want 7100", left)
	}
}

// Neither a SYN in the middle of a connection nor an acknowledgment of data that was not sent moves the window to
// where a forged RST would be valid.
func TestForgedSegmentsDoNotMoveWindow(t *testing.T) {
	t.Parallel()
	for name, forged := range map[string]session.Segment{
		"SYN":        {Event: packet.SYN, Seq: 99, Window: 65535, Scale: 14},
		"SYN ACK":    {Event: packet.SYN, Seq: 99, Ack: 1 << 30, HasAck: true},
		"ACK":        {Seq: 99, Ack: 1 << 30, HasAck: true, Window: 65535},
		"RST ACK":    {Event: packet.RST, Seq: 1 << 30, Ack: 1 << 30, HasAck: true},
		"late ACK":   {Seq: 99, Ack: 1<<32 - 1<<30, HasAck: true, Window: 65535},
		"nothing":    {Seq: 99},
		"old window": {Seq: 99, Ack: 2, HasAck: true, Window: 0},
	} {
		l := newLine(t)
		l.open(1, 1, 8)
		l.from6(forged)
		if got := l.from4(session.Segment{Event: packet.RST, Seq: 1 << 30}); got != session.Established {
			t.Errorf("after a forged %s, a forged RST leads to %v", name, got)
		}
		if got := l.from4(session.Segment{Event: packet.RST, Seq: 2 + 1000<<8}); got != session.Trans {
			t.Errorf("after a forged %s, a true RST leads to %v", name, got)
		}
	}
}

// A connection that began before the check was on is not checked; a reused slot has no data of its last session.
func TestUnknownWindows(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	on, off := l.conf, l.conf
	off.CheckSequence = false
	l.sessions.Configure(off)
	l.open(1, 1, 14)
	l.sessions.Configure(on)
	l.from6(session.Segment{Seq: 2, Ack: 2, HasAck: true, Window: 1000})
	if got := l.from4(session.Segment{Event: packet.RST, Seq: 2 + 1000<<14}); got != session.Trans {
		t.Errorf("a RST within a window of unknown scale leads to %v", got)
	}
	l.sessions.Configure(off)
	l.open(1, 1, 0)
	if got := l.from4(session.Segment{Event: packet.RST, Seq: 1 << 31}); got != session.Trans {
		t.Errorf("an unchecked RST leads to %v", got)
	}

	l = newLine(t)
	for i := range uint32(20) {
		l.open(i<<28, i<<28, 0)
		if got := l.from6(session.Segment{Event: packet.RST, Seq: i<<28 + 1<<27}); got != session.Established {
			t.Errorf("connection %d: a forged RST leads to %v", i, got)
		}
		if got := l.from6(session.Segment{Event: packet.RST, Seq: i<<28 + 1}); got != session.Trans {
			t.Errorf("connection %d: a RST leads to %v", i, got)
		}
		if i%2 == 0 { // else the next connection is a reconnection
			l.now += seconds(241)
			l.sweep(l.now)
		}
	}
}

// TestSlotsForgetWindows: a connection of which only one SYN was seen, the other having been stored, is not held to the
// windows of a connection that was in its slot before.
func TestSlotsForgetWindows(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	for i := range uint32(30) {
		l.open(i<<27, i<<27, 0)
		l.from6(session.Segment{Event: packet.RST, Seq: i<<27 + 1})
		l.now += seconds(241)
		l.sweep(l.now)
		l.mapped = endpoint4("192.0.2.1", 7000)
		l.gateway.from4(packet.TCP, l.server, l.mapped, packet.SYN, l.now)
		l.from6(session.Segment{Event: packet.SYN, Seq: 1 << 31, Window: 1000})
		if i%2 == 0 {
			l.from4(session.Segment{Seq: 1 << 30, Ack: 1<<31 + 1, HasAck: true, Window: 1000})
		}
		if got := l.from6(session.Segment{Event: packet.RST, Seq: 1<<31 + 1}); got != session.Trans {
			t.Fatalf("connection %d: a true RST leads to %v", i, got)
		}
		l.now += seconds(241)
		l.sweep(l.now)
	}
}

// TestExpiredSessionForgetsWindows: a connection on the ports of one that is over, but not yet swept.
func TestExpiredSessionForgetsWindows(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.open(1, 1, 0)
	l.from6(session.Segment{Event: packet.FIN, Seq: 2})
	l.now = seconds(7201)
	l.open(1<<30, 1<<30, 0)
	for _, c := range []struct {
		seq  uint32
		want session.State
	}{{2, session.Established}, {1<<30 + 1, session.Trans}} {
		if got := l.from4(session.Segment{Event: packet.RST, Seq: c.seq}); got != c.want {
			t.Errorf("a RST at %d leads to %v, want %v", c.seq, got, c.want)
		}
	}
}

// Two hosts exchange data, with lost and reordered packets, within the windows of both; then one closes, which must
// have an effect.
func TestTrueSegmentsHaveAnEffect(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		l := newLine(t)
		hosts := [2]*host{}
		for i := range hosts {
			hosts[i] = &host{
				next:  rapid.Uint32().Draw(rt, "initial sequence number"),
				scale: uint8(rapid.IntRange(0, 14).Draw(rt, "scale")),
			}
			hosts[i].limit = hosts[i].next + 1
		}
		l.open2(hosts[0], hosts[1])
		for range rapid.IntRange(0, 40).Draw(rt, "segments") {
			i := rapid.IntRange(0, 1).Draw(rt, "side")
			s := hosts[i].say(rt, hosts[1-i])
			if rapid.IntRange(0, 9).Draw(rt, "luck") == 0 {
				continue // lost before the gateway
			}
			l.send(i, s)
			if rapid.IntRange(0, 9).Draw(rt, "luck") != 0 {
				hosts[1-i].hear(s)
			}
		}
		i := rapid.IntRange(0, 1).Draw(rt, "side")
		s := hosts[i].say(rt, hosts[1-i])
		s.Event = packet.FIN
		want := []session.State{session.V6FinRcv, session.V4FinRcv}[i]
		if got := l.send(i, s); got != want {
			rt.Fatalf("a true FIN leads to %v: %+v", got, s)
		}
	})
}

// host is one end of a connection, as far as sequence numbers go.
type host struct {
	next, limit uint32 // next sequence number to send, and the limit
	expects     uint32 // what it waits for
	window      uint16
	scale       uint8
}

// open2 makes a connection.
func (l *line) open2(a, b *host) {
	a.window, b.window = 1000, 1000
	l.send(0, session.Segment{Event: packet.SYN, Seq: a.next, Window: a.window, Scale: a.scale})
	a.next++
	b.expects = a.next
	l.send(1, session.Segment{Event: packet.SYN, Seq: b.next, Ack: b.expects, HasAck: true, Window: b.window, Scale: b.scale})
	b.next++
	a.expects = b.next
	l.send(0, session.Segment{Seq: a.next, Ack: a.expects, HasAck: true, Window: a.window})
	a.limit, b.limit = a.next+1000, b.next+1000
}

func (l *line) send(side int, s session.Segment) session.State {
	if side == 0 {
		return l.from6(s)
	}
	return l.from4(s)
}

// say returns the next segment of a host: some data that the other is ready for, and what it expects itself.
func (h *host) say(t *rapid.T, to *host) session.Segment {
	h.window = max(h.window, rapid.Uint16().Draw(t, "window")) // a host never takes back what it has offered
	s := session.Segment{Seq: h.next, Ack: h.expects, HasAck: true, Window: h.window}
	if room := int32(h.limit - h.next); room > 0 {
		s.Len = uint32(rapid.IntRange(0, min(int(room), 60000)).Draw(t, "bytes"))
	}
	h.next += s.Len
	return s
}

// hear takes a segment of the other host.
func (h *host) hear(s session.Segment) {
	if s.Seq == h.expects {
		h.expects += s.Len
	}
	if int32(s.Ack+uint32(s.Window)-h.limit) > 0 {
		h.limit = s.Ack + uint32(s.Window)
	}
}

// TestCheckDoesNotAllocate, once a session's windows have their memory.
func TestCheckDoesNotAllocate(t *testing.T) {
	l := newLine(t)
	l.tries = nil
	l.open(1, 1, 8)
	s6 := session.Segment{Seq: 2, Ack: 2, HasAck: true, Window: 1000}
	s4 := s6
	if n := testing.AllocsPerRun(1000, func() {
		s6.Seq++
		s4.Ack++
		_, r6 := l.tcp6(&l.client, l.server, 0, &s6, l.now)
		_, _, r4 := l.tcp4(l.server, l.mapped, &s4, l.now)
		if r6 != drop.None || r4 != drop.None {
			t.Fatal(r6, r4)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
