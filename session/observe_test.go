package session

import (
	"slices"
	"sync"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// seen collects events of a table.
type seen struct {
	events []Event
	lost   uint64
}

func (s *seen) note(batch []Event, lost uint64) {
	s.events = append(s.events, batch...)
	s.lost += lost
}

func (s *seen) causes() (all []Cause) {
	for _, e := range s.events {
		all = append(all, e.Cause)
	}
	return all
}

// A full ring loses events without blocking; each observer gets the number of lost events of its kinds.
func TestObserversGetNumberOfLostEvents(t *testing.T) {
	t.Parallel()
	s, _ := flowTables(t)
	var all, sessions seen
	s.Observe(^Kinds(0), all.note)
	o := s.Observe(KindsOf(SessionMade), sessions.note)
	for range ringLen + 10 {
		s.observers.emit(&Event{Kind: SessionMade})
	}
	for range 3 {
		s.observers.emit(&Event{Kind: BindingMade})
	}
	if n := s.Deliver(); n != ringLen {
		t.Errorf("%d are delivered, want %d", n, ringLen)
	}
	if len(all.events) != ringLen || all.lost != 13 || len(sessions.events) != ringLen || sessions.lost != 10 || s.Lost(^Kinds(0)) != 13 {
		t.Errorf("%d and %d events, %d and %d lost", len(all.events), len(sessions.events), all.lost, sessions.lost)
	}
	o.Close()
	s.observers.emit(&Event{Kind: SessionMade})
	if s.Deliver(); len(all.events) != ringLen+1 || len(sessions.events) != ringLen || all.lost != 13 {
		t.Errorf("afterwards %d and %d events, %d lost", len(all.events), len(sessions.events), all.lost)
	}
}

// Many producers put and one consumer takes: each event arrives once or is counted as lost, those of one producer in order.
func TestRingUnderConcurrency(t *testing.T) {
	t.Parallel()
	s, _ := flowTables(t)
	const producers, each = 4, 30_000
	next, got := [producers]table.Time{}, uint64(0)
	s.Observe(KindsOf(SessionMade), func(batch []Event, lost uint64) {
		got += uint64(len(batch)) + lost
		for _, e := range batch {
			if e.At < next[e.Proto] {
				t.Errorf("event %d of producer %d after %d", e.At, e.Proto, next[e.Proto])
			}
			next[e.Proto] = e.At + 1
		}
	})
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := range each {
				s.observers.emit(&Event{Kind: SessionMade, At: table.Time(i), Flow: Flow{Proto: packet.Proto(p)}})
			}
		})
	}
	stop := make(chan struct{})
	go func() { wg.Wait(); close(stop) }()
	for running := true; running; {
		select {
		case <-stop:
			running = false
		default:
		}
		s.Deliver()
	}
	for s.Deliver() > 0 {
	}
	if got != producers*each {
		t.Errorf("%d events arrived or were lost, want %d", got, producers*each)
	}
}

// Every end of a session is reported with its cause, and every transition of a TCP session is reported.
func TestCausesAndTransitions(t *testing.T) {
	t.Parallel()
	_, s, epochs := newTables(t, "7000", 10) // one transport address, so that all events arrive in order
	epochs.Enter(0)
	defer epochs.Leave(0)
	minute := time.Minute
	s.Configure(Config{
		Timeouts:        Timeouts{UDP: minute, TCPEstablished: minute, TCPOpening: minute, TCPTransitory: minute},
		AllowInboundTCP: true, RSTDuringFIN: true,
	})
	var ends, changes seen
	s.Observe(KindsOf(SessionEnded), ends.note)
	s.Observe(KindsOf(SessionChanged), changes.note)
	now := table.Time(0)
	// connect opens a connection, and sends one more event from each side.
	connect := func(six, four packet.TCPEvent) {
		f := udpFlow()
		f.Proto = packet.TCP
		for _, ev := range []packet.TCPEvent{packet.SYN, six} {
			if r := s.From6(&f, &Packet{Event: ev, Now: now}); r != drop.None {
				t.Fatal(r)
			}
			back := Flow{Proto: packet.TCP, Mapped: f.Mapped, Remote: f.Remote}
			if ev == six {
				ev = four
			}
			s.From4(&back, &Packet{Event: ev, Now: now})
		}
		now += table.TimeOf(5 * minute)
		for s.Sweep(now, 1000, func(Probe) {}) {
		}
	}
	connect(packet.FIN, packet.FIN)
	connect(packet.RST, packet.RST)
	connect(packet.Other, packet.Other)
	u := udpFlow()
	s.From6(&u, &Packet{Event: packet.Other, Now: now})
	now += table.TimeOf(2 * minute)
	u = udpFlow()
	s.From6(&u, &Packet{Event: packet.Other, Now: now})
	s.Purge(func(bib.Binding) bool { return true })
	s.Deliver()
	if got, want := ends.causes(), []Cause{Finished, Reset, Expired, Replaced, Purged}; !slices.Equal(got, want) {
		t.Errorf("the causes are %v, want %v", got, want)
	}
	var states []State
	for _, e := range changes.events {
		states = append(states, e.Before, e.State)
	}
	want := []State{
		V6Init, Established, Established, V6FinRcv, V6FinRcv, V4FinV6FinRcv,
		V6Init, Established, Established, Trans,
		V6Init, Established,
	}
	if !slices.Equal(states[:min(len(want), len(states))], want) {
		t.Errorf("the transitions are %v, want %v", states, want)
	}
}

func TestEventsDoNotAllocate(t *testing.T) {
	s, _ := flowTables(t)
	s.Observe(^Kinds(0), func([]Event, uint64) {})
	f := udpFlow()
	s.From6(&f, &Packet{Event: packet.Other})
	e := s.entries.At(f.Slot())
	w := word(e.word.Load())
	if n := testing.AllocsPerRun(100, func() {
		s.made(f.Slot(), e, w, 1)
		s.ended(f.Slot(), e, w, Expired, 1)
		s.bindingChanged(bib.Binding{}, bib.Made)
		s.Deliver()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
