package pool4

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

const restAtLeast = 4 * time.Second

// newRestingPool returns a pool of 16 UDP ports that were given back in their order, one a second from second 0 on.
func newRestingPool(t *testing.T, blockSize int) *Pool {
	p := newPool(t, "192.0.2.1", "7168-7183")
	p.Configure(Config{HoldDown: 120 * time.Second, RestAtLeast: restAtLeast, BlockSize: blockSize, Fields: AllFields})
	q := request(packet.UDP, 1, 5000)
	for range 16 {
		if _, r := p.Allocate(q); r != drop.None {
			t.Fatal(r)
		}
	}
	for i := range 16 {
		p.Retire(packet.UDP, packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: 7168 + uint16(i)})
		p.Expire(time.Duration(i)*time.Second, 100)
	}
	return p
}

// TestRestingPortsGiveWay checks that a port in hold-down is chosen if no other is free: the oldest first, none within
// Config.RestAtLeast, and none twice.
func TestRestingPortsGiveWay(t *testing.T) {
	t.Parallel()
	p := newRestingPool(t, 0)
	allocate := func() (uint16, drop.Reason) {
		e, r := p.Allocate(request(packet.UDP, 2, 5000))
		return e.Port, r
	}
	for i := range 12 { // the last call of Expire was in second 15
		if port, r := allocate(); r != drop.None || port != 7168+uint16(i) {
			t.Fatalf("port %d: %v, reason %v", i, port, r)
		}
	}
	if port, r := allocate(); r != drop.PoolExhausted {
		t.Fatalf("port %d, held for less than %v, is chosen: %v", port, restAtLeast, r)
	}
	if n := p.RestedShort(); n != 12 {
		t.Errorf("%d ports have left hold-down early, want 12", n)
	}
	p.Retire(packet.UDP, packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: 7168})
	p.Expire(16*time.Second, 100)
	if port, r := allocate(); r != drop.None || port != 7180 {
		t.Fatalf("port %d, reason %v, want 7180", port, r)
	}
	// The first hold-down of 7168 would end in second 120; the second one lasts until 136.
	p.Expire(121*time.Second, 100)
	if u := p.Usage()[packet.UDP]; u.Used != 12 || u.Held != 4 {
		t.Errorf("%d ports used and %d held, want 12 and 4", u.Used, u.Held)
	}
	buf := make([]HeldPort, 10)
	if n, next := p.HeldPorts(0, buf, 121*time.Second); n != 4 || next != 0 || buf[3].At.Port != 7168 || buf[3].Remaining != 15*time.Second {
		t.Errorf("%d held, next %d: %+v", n, next, buf[:n])
	}
	p.Expire(137*time.Second, 100)
	if u := p.Usage()[packet.UDP]; u.Used != 12 || u.Held != 0 {
		t.Errorf("%d ports used and %d held, want 12 and 0", u.Used, u.Held)
	}
}

// TestFreePortsPrecedeResting checks that no port leaves hold-down early while another address has a free port.
func TestFreePortsPrecedeResting(t *testing.T) {
	t.Parallel()
	p := newRestingPool(t, 0)
	if _, _, err := p.Add(parse(t, "192.0.2.2", "7000-7009")); err != nil {
		t.Fatal(err)
	}
	for i := range uint16(10) {
		if e, r := p.Allocate(request(packet.UDP, 7, 5000+i)); r != drop.None || e.Addr[3] != 2 {
			t.Fatalf("%v, reason %v, though 192.0.2.2 has a free port", e, r)
		}
	}
	if e, r := p.Allocate(request(packet.UDP, 7, 6000)); r != drop.None || e.Addr[3] != 1 {
		t.Errorf("%v, reason %v, want a port in hold-down", e, r)
	}
}

// TestRestingBlocksGiveWay checks that a port block whose ports are all in hold-down goes to another client if no block is
// free, once the last of its ports has been held for Config.RestAtLeast.
func TestRestingBlocksGiveWay(t *testing.T) {
	t.Parallel()
	p := newRestingPool(t, 16)
	q := request(packet.UDP, 2, 5000)
	q.Owner = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 9}
	if e, r := p.Allocate(q); r != drop.PoolExhausted {
		t.Fatalf("%v of another client's block: %v", e, r)
	}
	p.Expire(19*time.Second, 100)
	e, r := p.Allocate(q)
	if r != drop.None {
		t.Fatal(r)
	}
	if owner, ok := p.BlockOwner(packet.UDP, e); !ok || owner != q.Owner {
		t.Errorf("the block belongs to %v", owner)
	}
}
