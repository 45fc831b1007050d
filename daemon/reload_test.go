//go:build linux

package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"nat64d/pool4"
)

func parse(t *testing.T, address, ports string) []pool4.Entry {
	es, err := pool4.ParseRange(address, ports)
	if err != nil {
		t.Fatal(err)
	}
	return es
}

func TestMinusSubtractsPorts(t *testing.T) {
	for name, row := range map[string]struct{ a, b, want []pool4.Entry }{
		"a range that grows":     {parse(t, "192.0.2.1", "7000-8500"), parse(t, "192.0.2.1", "7000-8000"), parse(t, "192.0.2.1", "8001-8500")},
		"a range that shrinks":   {parse(t, "192.0.2.1", "7000-8000"), parse(t, "192.0.2.1", "7000-8500"), nil},
		"a hole":                 {parse(t, "192.0.2.1", "7000-7002"), parse(t, "192.0.2.1", "7001"), append(parse(t, "192.0.2.1", "7000"), parse(t, "192.0.2.1", "7002")...)},
		"another address":        {parse(t, "192.0.2.1", "7000"), parse(t, "192.0.2.2", "7000"), parse(t, "192.0.2.1", "7000")},
		"as it was":              {parse(t, "192.0.2.0/28", "7000-8000"), parse(t, "192.0.2.0/28", "7000-8000"), nil},
		"as it was, in two rows": {append(parse(t, "192.0.2.1", "1-9"), parse(t, "192.0.2.1", "10-20")...), parse(t, "192.0.2.1", "1-20"), nil},
	} {
		got := minus(row.a, row.b)
		slices.SortFunc(row.want, pool4.Entry.Compare)
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", name, got, row.want)
		}
	}
}

// A reload compares all of pool4, so the cost must not be quadratic.
func TestMinusOfALargePool(t *testing.T) {
	all := parse(t, "10.1.0.0/19", "1024-65535")
	if got := minus(all, all); len(got) != 0 {
		t.Errorf("%d ranges remain", len(got))
	}
}

func TestRowsMinus(t *testing.T) {
	a, b := netip.MustParseAddrPort("[2001:db8::1]:80"), netip.MustParseAddrPort("[2001:db8::2]:80")
	e := pool4.Entry{Addr: netip.MustParseAddr("192.0.2.1"), Lo: 80, Hi: 80}
	if n := len(rows{e: a}.minus(rows{e: a})); n != 0 {
		t.Errorf("%d rows remain", n)
	}
	if n := len(rows{e: a}.minus(rows{e: b})); n != 1 {
		t.Errorf("a row of another client is treated as equal")
	}
}
