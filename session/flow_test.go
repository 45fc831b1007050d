package session

import (
	"reflect"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/table"
)

// flowTables returns tables for one worker, inside a batch. UDP sessions last a minute.
func flowTables(t *testing.T) (*Table, *table.Epochs) {
	t.Helper()
	_, s, epochs := newTables(t, "7000-7009", 10)
	s.Configure(Config{Timeouts: Timeouts{UDP: time.Minute}})
	epochs.Enter(0)
	t.Cleanup(func() { epochs.Leave(0) })
	return s, epochs
}

func udpFlow() Flow {
	return Flow{
		Proto: packet.UDP, Client: packet.Endpoint6{Addr: packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 15: 1}, Port: 5000},
		Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 53}, Prefix: 3,
	}
}

// Both sides' look-ups return the same flow, which names the session until that ends, and never one that comes later.
func TestFlowNamesItsSession(t *testing.T) {
	t.Parallel()
	s, epochs := flowTables(t)
	six := udpFlow()
	if s.Alive(&six) {
		t.Error("a flow that no look-up has filled in is alive")
	}
	if r := s.From6(&six, &Packet{Event: packet.Other}); r != drop.None || !s.Alive(&six) {
		t.Fatalf("reason %v, alive %v", r, s.Alive(&six))
	}
	four := Flow{Proto: packet.UDP, Mapped: six.Mapped, Remote: six.Remote}
	if r := s.From4(&four, &Packet{Event: packet.Other}); r != drop.None || four != six {
		t.Errorf("reason %v, from IPv4 %+v, from IPv6 %+v", r, four, six)
	}
	peek := Flow{Proto: packet.UDP, Mapped: six.Mapped, Remote: six.Remote}
	if !s.Peek4(&peek) || peek != six {
		t.Errorf("Peek4 returns %+v, want %+v", peek, six)
	}
	old := six
	for range 3 {
		s.Purge(func(bib.Binding) bool { return true })
		if s.Alive(&old) || s.Alive(&six) {
			t.Fatal("a flow is alive whose session has ended")
		}
		epochs.Leave(0)
		epochs.Enter(0)
		six = udpFlow()
		s.From6(&six, &Packet{Event: packet.Other})
		if !s.Alive(&six) || s.Alive(&old) {
			t.Fatalf("alive are %v and, of an earlier session, %v", s.Alive(&six), s.Alive(&old))
		}
	}
}

// A session that takes the place of one whose lifetime is over has another name.
func TestFlowOfReopenedSession(t *testing.T) {
	t.Parallel()
	s, _ := flowTables(t)
	old, again := udpFlow(), udpFlow()
	s.From6(&old, &Packet{Event: packet.Other})
	s.From6(&again, &Packet{Event: packet.Other, Now: table.TimeOf(2 * time.Minute)})
	if old.Slot() != again.Slot() || s.Alive(&old) || !s.Alive(&again) {
		t.Errorf("slots %d and %d, alive %v and %v", old.Slot(), again.Slot(), s.Alive(&old), s.Alive(&again))
	}
}

// A TCP segment that passes through a binding without a session has a flow that names none.
func TestFlowWithoutSession(t *testing.T) {
	t.Parallel()
	s, _ := flowTables(t)
	f := udpFlow()
	f.Proto = packet.TCP
	if err := s.AddStatic(packet.TCP, f.Client, packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: 7000}); err != nil {
		t.Fatal(err)
	}
	if r := s.From6(&f, &Packet{Event: packet.Other}); r != drop.None || f.Mapped.Port != 7000 || f.Slot() != 0 || s.Alive(&f) {
		t.Errorf("reason %v, %+v", r, f)
	}
}

// The generation continues beyond its bits in the word.
func TestGenerationDoesNotWrapWithItsWord(t *testing.T) {
	t.Parallel()
	s, _ := flowTables(t)
	f := udpFlow()
	s.From6(&f, &Packet{Event: packet.Other})
	first := f.Generation()
	e := s.entries.At(f.Slot())
	for range 1 << 16 {
		e.word.Store(uint64(s.beginLocked(e, word(e.word.Load()).freed(), makeWord(0, 0, Active, lifeUDP))))
	}
	if s.Alive(&f) {
		t.Error("a session is treated as the one 65,536 generations before it")
	}
	if g := generation(e.cycle.Load(), word(e.word.Load())); g != first+1<<16 {
		t.Errorf("generation %d after %d and 65,536 more", g, first)
	}
}

func TestSizeOfEntry(t *testing.T) {
	t.Parallel()
	if n := reflect.TypeFor[entry]().Size(); n != 32 {
		t.Errorf("an entry takes %d bytes, want 32, so that none lies in two cache lines", n)
	}
}
