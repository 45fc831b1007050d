package pool4

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// TestPortsAreSpread checks RFC 6056: consecutive ports of one client to one server are spread evenly over the range
// (chi-squared over 63 classes of 1,024 ports) and are neither close to each other nor in order.
func TestPortsAreSpread(t *testing.T) {
	t.Parallel()
	const n = 16_000
	p := newPool(t, "192.0.2.1", "")
	var bins [64]float64
	ascending, near := 0, 0
	last := uint16(0)
	for x := range uint16(n) {
		e, r := p.Allocate(request(packet.TCP, 1, 2000+x))
		if r != drop.None {
			t.Fatal(r)
		}
		bins[e.Port/1024]++
		if e.Port > last {
			ascending++
		}
		if d := int(e.Port) - int(last); d > -100 && d < 100 {
			near++
		}
		last = e.Port
	}
	chi := 0.0
	for _, got := range bins[1:] {
		want := float64(n) / 63
		chi += (got - want) * (got - want) / want
	}
	if chi > 120 { // 62 degrees of freedom: one in 100,000 would be above 120
		t.Errorf("chi-squared %.0f: ports are not spread evenly", chi)
	}
	if ascending < n*45/100 || ascending > n*55/100 {
		t.Errorf("%d of %d ports are above their predecessor, want about half", ascending, n)
	}
	if near > n/100 {
		t.Errorf("%d of %d ports are near their predecessor", near, n)
	}
}

// TestNoPortIsPreserved checks that Allocate chooses a random port although the client's own port is free, for UDP one
// of the same parity (RFC 6056 section 4, RFC 7857 section 9).
func TestNoPortIsPreserved(t *testing.T) {
	t.Parallel()
	const n = 16_000
	for _, proto := range []packet.Proto{packet.TCP, packet.UDP} {
		p := newPool(t, "192.0.2.1", "")
		same, parity := 0, 0
		for x := range uint16(n) {
			e, r := p.Allocate(request(proto, 1, 2000+x))
			if r != drop.None {
				t.Fatal(r)
			}
			if e.Port == 2000+x {
				same++
			}
			if e.Port%2 == x%2 {
				parity++
			}
		}
		if same > 10 { // the expected number is 0.5
			t.Errorf("%v: %d of %d clients have their own port", proto, same, n)
		}
		if proto == packet.UDP && parity != n || proto == packet.TCP && (parity < n*45/100 || parity > n*55/100) {
			t.Errorf("%v: %d of %d clients have a port of the same parity", proto, parity, n)
		}
	}
}

func TestKeysGiveDifferentPorts(t *testing.T) {
	t.Parallel()
	same := 0
	a, b := New([16]byte{1}), New([16]byte{2})
	for _, p := range []*Pool{a, b} {
		if _, _, err := p.Add(parse(t, "192.0.2.1", "")); err != nil {
			t.Fatal(err)
		}
	}
	for x := range uint16(1000) {
		e, _ := a.Allocate(request(packet.UDP, 1, 5000+x))
		f, _ := b.Allocate(request(packet.UDP, 1, 5000+x))
		if e == f {
			same++
		}
	}
	if same > 5 {
		t.Errorf("two keys give the same port %d times in 1000", same)
	}
}

// TestNextPortDiffers repeats a flow: it gets another port, because the server may still have state of the old one.
func TestNextPortDiffers(t *testing.T) {
	t.Parallel()
	p := newPool(t, "192.0.2.1", "")
	last := uint16(0)
	for range 100 {
		e, _ := p.Allocate(request(packet.TCP, 1, 5000))
		if e.Port == last {
			t.Fatalf("port %d twice in a row", last)
		}
		last = e.Port
		p.Release(packet.TCP, e)
	}
}
