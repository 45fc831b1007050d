package pool6_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"testing"

	"nat64d/pool6"
)

func addresses(t testing.TB) (v struct {
	RFC6052  []struct{ Prefix, V4, V6 string }
	Prefixes []struct {
		Prefix string
		Valid  bool
		Why    string
	}
}) {
	b, err := os.ReadFile("testdata/addresses.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestEmbedAndExtract(t *testing.T) {
	for _, row := range addresses(t).RFC6052 {
		p, err := pool6.ParsePrefix(row.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		v4, v6 := netip.MustParseAddr(row.V4).As4(), netip.MustParseAddr(row.V6).As16()
		if got := p.Embed(v4); got != v6 {
			t.Errorf("%v: %v embedded is %v, want %v", p, row.V4, netip.AddrFrom16(got), row.V6)
		}
		if !p.Contains(&v6) {
			t.Errorf("%v does not contain %v", p, row.V6)
		}
		if got := p.Extract(&v6); got != v4 {
			t.Errorf("%v: %v extracted is %v, want %v", p, row.V6, netip.AddrFrom4(got), row.V4)
		}
	}
}

func TestParsePrefix(t *testing.T) {
	for _, row := range addresses(t).Prefixes {
		if _, err := pool6.ParsePrefix(row.Prefix); (err == nil) != row.Valid {
			t.Errorf("%v: error %v, want valid %v (%v)", row.Prefix, err, row.Valid, row.Why)
		}
	}
	for _, s := range []string{"", "64:ff9b::", "64:ff9b::/64", "10.0.0.0/8", "fe80::/64", "::/96", "64:ff9b::%1/96"} {
		if p, err := pool6.ParsePrefix(s); err == nil {
			t.Errorf("%q was taken as %v", s, p)
		}
	}
	if p, err := pool6.ParsePrefix("64:ff9b::/96"); err != nil || !p.IsWellKnown() || p.String() != "64:ff9b::/96" {
		t.Errorf("got %v, %v", p, err)
	}
}

func TestMatchTakesLongestPrefix(t *testing.T) {
	ps := make([]pool6.Prefix, 3)
	for i, s := range []string{"2001:db8::/32", "2001:db8:0:1::/64", "64:ff9b::/96"} {
		ps[i], _ = pool6.ParsePrefix(s)
	}
	for s, want := range map[string]int{"2001:db8::1": 0, "2001:db8:0:1::1": 1, "64:ff9b::1": 2, "2001:db9::1": -1} {
		a := netip.MustParseAddr(s).As16()
		if n, ok := pool6.Match(ps, &a); ok != (want >= 0) || ok && n != want {
			t.Errorf("%v matches %d, %v; want %d", s, n, ok, want)
		}
	}
}

func TestAddressClasses(t *testing.T) {
	for s, want := range map[string][2]bool{ // unicast, global
		"0.1.2.3": {false, false}, "10.0.0.1": {true, false}, "127.0.0.1": {false, false}, "8.8.8.8": {true, true},
		"100.64.0.1": {true, false}, "100.128.0.1": {true, true}, "169.254.1.1": {true, false}, "172.31.0.1": {true, false},
		"172.32.0.1": {true, true}, "192.0.2.1": {true, false}, "192.88.99.1": {true, true}, "192.88.99.2": {true, false}, "192.0.0.1": {true, false}, "192.0.0.8": {false, false}, "192.0.0.9": {true, true},
		"192.0.0.10": {true, true}, "192.0.0.11": {true, false}, "192.0.0.170": {false, false}, "192.0.0.171": {false, false}, "192.0.0.172": {true, false}, "192.31.196.1": {true, true}, "198.19.0.1": {true, false},
		"224.0.0.1": {false, false}, "240.0.0.1": {false, false}, "255.255.255.255": {false, false},
	} {
		a := netip.MustParseAddr(s).As4()
		if got := [2]bool{pool6.Unicast4(a), pool6.Global4(a)}; got != want {
			t.Errorf("%v: unicast and global %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]bool{"::": false, "::1": false, "fe80::1": false, "ff02::1": false, "2001:db8::1": true, "64:ff9b::1": true, "::2": false, "::192.0.2.1": false, "::ffff:192.0.2.1": false, "::1:0:0:1": true} {
		a := netip.MustParseAddr(s).As16()
		if got := pool6.Unicast6(&a); got != want {
			t.Errorf("%v: unicast %v, want %v", s, got, want)
		}
	}
}

// ClassOf4 agrees with a linear search of the rows for the longest prefix, at and next to both ends of each row.
func TestClassOf4TakesLongestPrefix(t *testing.T) {
	for _, s := range pool6.Specials4() {
		last := s.Prefix.Addr().As4()
		for i := range last {
			last[i] |= ^byte(0) >> min(8, max(0, s.Prefix.Bits()-8*i))
		}
		for _, a := range []netip.Addr{s.Prefix.Addr(), s.Prefix.Addr().Prev(), netip.AddrFrom4(last), netip.AddrFrom4(last).Next()} {
			if !a.IsValid() {
				continue
			}
			want, bits := pool6.Global, -1
			for _, r := range pool6.Specials4() {
				if r.Prefix.Contains(a) && r.Prefix.Bits() > bits {
					want, bits = r.Class, r.Prefix.Bits()
				}
			}
			if got := pool6.ClassOf4(a.As4()); got != want {
				t.Errorf("%v has class %d, want %d", a, got, want)
			}
		}
	}
	global, none := [4]byte{8, 8, 8, 8}, [4]byte{192, 0, 3, 1}
	if n := testing.AllocsPerRun(100, func() { pool6.ClassOf4(global); pool6.ClassOf4(none) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkClassOf4(b *testing.B) {
	for _, a := range [][4]byte{{8, 8, 8, 8}, {192, 1, 2, 3}} {
		b.Run(netip.AddrFrom4(a).String(), func(b *testing.B) {
			for b.Loop() {
				pool6.ClassOf4(a)
			}
		})
	}
}

func BenchmarkExtract(b *testing.B) {
	p, _ := pool6.ParsePrefix("2001:db8:100::/40")
	a := p.Embed([4]byte{192, 0, 2, 33})
	for b.Loop() {
		p.Extract(&a)
	}
}

func BenchmarkMatch(b *testing.B) {
	ps := make([]pool6.Prefix, 3)
	for i, s := range []string{"2001:db8::/32", "2001:db8:0:1::/64", "64:ff9b::/96"} {
		ps[i], _ = pool6.ParsePrefix(s)
	}
	a := netip.MustParseAddr("64:ff9b::1").As16()
	match := func() { pool6.Match(ps, &a) }
	if n := testing.AllocsPerRun(100, match); n != 0 {
		b.Errorf("%v allocations", n)
	}
	for b.Loop() {
		match()
	}
}

func FuzzParsePrefix(f *testing.F) {
	f.Add("64:ff9b::/96")
	f.Add("2001:db8::/32")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := pool6.ParsePrefix(s)
		if err != nil {
			return
		}
		v4 := [4]byte{192, 0, 2, 33}
		a := p.Embed(v4)
		if !p.Contains(&a) || p.Extract(&a) != v4 || a[8] != 0 {
			t.Fatalf("%v does not give back what it embedded", p)
		}
	})
}
