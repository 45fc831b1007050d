package pool4

import (
	"net/netip"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// TestHoldDown checks RFC 6888 REQ-8: Allocate does not choose a UDP port or Identifier for HoldDown after it was given
// back, but a TCP port at once.
func TestHoldDown(t *testing.T) {
	t.Parallel()
	for proto := range packet.Protos {
		p := newPool(t, "192.0.2.1", "7000")
		p.Configure(Config{HoldDown: 120 * time.Second, Fields: AllFields})
		e, _ := p.Allocate(request(proto, 1, 5000))
		p.Expire(time.Second, 100)
		p.Retire(proto, e)
		again := func(now time.Duration) bool {
			p.Expire(now, 100)
			_, r := p.Allocate(request(proto, 1, 5000))
			return r == drop.None
		}
		if proto == packet.TCP {
			if !again(2 * time.Second) {
				t.Error("a TCP port is held down")
			}
			continue
		}
		if again(2*time.Second) || again(122*time.Second) {
			t.Errorf("%v: a held port is chosen", proto)
		}
		if u := p.Usage()[proto]; u.Used != 0 || u.Held != 1 {
			t.Errorf("%v: %d used, %d held", proto, u.Used, u.Held)
		}
		if u := p.RowUsage()[proto]; u != (RowUsage{Addr: netip.AddrFrom4(e.Addr), Proto: proto, Size: 1, Held: 1, Peak: 1}) {
			t.Errorf("the use of the address is %+v", u)
		}
		if !again(122*time.Second + 1) {
			t.Errorf("%v: a port is held for longer than configured", proto)
		}
	}
}

// TestHeldPortsOfARemovedAddress removes an address from pool4: if it is added again, its ports are still held; if not,
// its row is deleted.
func TestHeldPortsOfARemovedAddress(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.1", "7000")
	p.Configure(Config{HoldDown: time.Minute, Fields: AllFields})
	e, _ := p.Allocate(request(packet.UDP, 1, 5000))
	p.Retire(packet.UDP, e)
	p.Expire(0, 1)
	p.Flush()
	if _, _, err := p.Add(parse(t, "192.0.2.1", "7000")); err != nil {
		t.Fatal(err)
	}
	if _, r := p.Allocate(request(packet.UDP, 1, 5000)); r != drop.PoolExhausted {
		t.Errorf("reason %v: a held port is chosen", r)
	}
	p.Flush()
	p.Expire(time.Hour, 1)
	if n := len(p.rows[packet.UDP]); n != 0 {
		t.Errorf("%d rows are left of an empty pool", n)
	}
}

// TestManyHeldPorts gives back more ports than a segment of the queue holds, and frees them in bounded steps, several times.
func TestManyHeldPorts(t *testing.T) {
	t.Parallel()
	const n, budget = 5000, 700
	p := newPool(t, "192.0.2.1", "10000-14999")
	p.Configure(Config{HoldDown: time.Minute, Fields: AllFields})
	for now := time.Duration(0); now < 10*time.Hour; now += time.Hour {
		for i := range uint16(n) {
			e, r := p.Allocate(request(packet.UDP, 1, i))
			if r != drop.None {
				t.Fatalf("port %d: %v", i, r)
			}
			p.Retire(packet.UDP, e)
		}
		if p.Expire(now, budget) {
			t.Error("ports are free at once")
		}
		steps := 1
		for ; p.Expire(now+30*time.Minute, budget); steps++ {
		}
		if steps != n/budget+1 || p.Usage()[packet.UDP].Held != 0 {
			t.Errorf("after %d steps, %d are held", steps, p.Usage()[packet.UDP].Held)
		}
	}
}

// TestWantedPorts requests a wanted port: Allocate takes it if it is free, in pool4, on the client's address and in its
// class.
func TestWantedPorts(t *testing.T) {
	t.Parallel()
	at := func(last byte, port uint16) packet.Endpoint4 {
		return packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, last}, Port: port}
	}
	for _, c := range []struct {
		name   string
		x      uint16 // the client's port
		wanted packet.Endpoint4
		paired packet.Addr4
		taken  bool
	}{
		{"free", 5000, at(1, 7000), packet.Addr4{}, true},
		{"on the client's address", 5000, at(1, 7000), packet.Addr4{192, 0, 2, 1}, true},
		{"on another address", 5000, at(1, 7000), packet.Addr4{192, 0, 2, 2}, false},
		{"of the other class", 5000, at(1, 80), packet.Addr4{}, false},
		{"just above the other class", 1023, at(1, 1024), packet.Addr4{}, false},
		{"just below the other class", 1024, at(1, 1023), packet.Addr4{}, false},
		{"that is the first of its class", 1024, at(1, 1024), packet.Addr4{}, true},
		{"that is the last of its class", 1023, at(1, 1023), packet.Addr4{}, true},
		{"in use", 5000, at(1, 7001), packet.Addr4{}, false},
		{"not in pool4", 5000, at(1, 9000), packet.Addr4{}, false},
		{"of no address of pool4", 5000, at(9, 7000), packet.Addr4{}, false},
	} {
		p := newPool(t, "192.0.2.1-192.0.2.2", "7000-8000", "192.0.2.1-192.0.2.2", "80", "192.0.2.1-192.0.2.2", "1023-1024")
		if err := p.Reserve(packet.TCP, at(1, 7001)); err != nil {
			t.Fatal(err)
		}
		q := request(packet.TCP, 1, c.x)
		q.Paired, q.Wanted = c.paired, []packet.Endpoint4{c.wanted}
		if e, r := p.Allocate(q); r != drop.None || (e == c.wanted) != c.taken {
			t.Errorf("a port %s: got %v, %v", c.name, e, r)
		}
	}
}

// TestHashFields compares the ports of two flows that differ in one field: they are equal if the hash does not cover
// the field.
func TestHashFields(t *testing.T) {
	t.Parallel()
	flow := request(packet.TCP, 1, 5000)
	others := map[Fields]Request{ClientAddress: flow, ClientPort: flow, PeerAddress: flow, PeerPort: flow}
	for f, q := range others {
		switch f {
		case ClientAddress:
			q.Client.Addr[15]++
		case ClientPort:
			q.Client.Port++
		case PeerAddress:
			q.Remote.Addr[3]++
		case PeerPort:
			q.Remote.Port++
		}
		for _, fields := range []Fields{AllFields, AllFields &^ f} {
			first := func(q Request) packet.Endpoint4 {
				p := newPool(t, "192.0.2.1", "10000-59999")
				p.Configure(Config{Fields: fields})
				e, _ := p.Allocate(q)
				return e
			}
			if same := first(flow) == first(q); same != (fields&f == 0) {
				t.Errorf("with fields %d, flows that differ in field %d have the same port: %v", fields, f, same)
			}
		}
	}
}
