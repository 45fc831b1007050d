package pool4

import (
	"net/netip"
	"strings"
	"testing"

	"nat64d/packet"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addresses, ports string
		protos           []packet.Proto
		n                int
		first, last      string
	}{
		{"192.0.2.15", "", nil, 3, "tcp 192.0.2.15 1024-65535", "icmp 192.0.2.15 0-65535"},
		{"192.0.2.15", "7000-8000", nil, 3, "tcp 192.0.2.15 7000-8000", "icmp 192.0.2.15 7000-8000"},
		{"192.0.2.15", "7000", []packet.Proto{packet.UDP}, 1, "udp 192.0.2.15 7000", "udp 192.0.2.15 7000"},
		{"192.0.2.15", "0-10", []packet.Proto{packet.ICMP}, 1, "icmp 192.0.2.15 0-10", "icmp 192.0.2.15 0-10"},
		{"192.0.2.16/30", "1-2", []packet.Proto{packet.TCP}, 4, "tcp 192.0.2.16 1-2", "tcp 192.0.2.19 1-2"},
		{"192.0.2.1-192.0.2.9", "1-2", []packet.Proto{packet.TCP}, 9, "tcp 192.0.2.1 1-2", "tcp 192.0.2.9 1-2"},
		{"192.0.2.1-192.0.2.1", "1", []packet.Proto{packet.TCP}, 1, "tcp 192.0.2.1 1", "tcp 192.0.2.1 1"},
		{"192.0.2.1/32", "65535", []packet.Proto{packet.TCP}, 1, "tcp 192.0.2.1 65535", "tcp 192.0.2.1 65535"},
		{"198.18.0.0/16", "", []packet.Proto{packet.TCP}, 65536, "tcp 198.18.0.0 1024-65535", "tcp 198.18.255.255 1024-65535"},
	} {
		got, err := ParseRange(c.addresses, c.ports, c.protos...)
		if err != nil {
			t.Errorf("%q %q: %v", c.addresses, c.ports, err)
			continue
		}
		if len(got) != c.n || got[0].String() != c.first || got[len(got)-1].String() != c.last {
			t.Errorf("%q %q: %d entries, %v to %v; want %d, %s to %s", c.addresses, c.ports, len(got), got[0], got[len(got)-1], c.n, c.first, c.last)
		}
	}
}

// TestParseRangeRefuses checks that each error names the mistake and the correct form.
func TestParseRangeRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ addresses, ports, says string }{
		{"", "", "write 192.0.2.1"},
		{"garbage", "", "not an IPv4 address"},
		{"192.0.2", "", "not an IPv4 address"},
		{"2001:db8::1", "", "2001:db8::1 is an IPv6 address"},
		{"2001:db8::/64", "", "is an IPv6 address"},
		{"2001:db8::1-2001:db8::2", "", "is an IPv6 address"},
		{"[2001:db8::1]:7000-8000", "", "[2001:db8::1]:7000-8000 is an IPv6 address"},
		{"2001:db8::1 7000-8000", "", "is an IPv6 address"},
		{"::ffff:192.0.2.1", "", "is an IPv6 address"},
		{"192.0.2.1:7000", "8000", "write the ports once"},
		{"192.0.2.1:7000:8000", "", "write the ports once"},
		{"192.0.2.1:", "", "write the ports once"},
		{"192.0.2.256", "", "0 to 255"},
		{"192.0.2.01", "", "leading zeros"},
		{" 192.0.2.1", "", "not an IPv4 address"},
		{"0.0.0.0", "", "this network"},
		{"127.0.0.1", "", "loopback"},
		{"224.0.0.1", "", "multicast"},
		{"240.0.0.1", "", "reserved"},
		{"255.255.255.255", "", "reserved"},
		{"126.255.255.250-127.0.0.9", "", "loopback"},
		{"192.0.2.1/24", "", "write 192.0.2.0/24"},
		{"192.0.2.0/33", "", "16 to 32"},
		{"192.0.2.0/", "", "16 to 32"},
		{"192.0.2.0/024", "", "16 to 32"},
		{"192.0.2.0/24/1", "", "16 to 32"},
		{"198.18.0.0/15", "", "/16"},
		{"1.0.0.0-223.255.255.255", "", "/16"},
		{"192.0.2.9-192.0.2.1", "", "write 192.0.2.1-192.0.2.9"},
		{"192.0.2.1-", "", "not an IPv4 address"},
		{"-192.0.2.1", "", "not an IPv4 address"},
		{"192.0.2.1-192.0.2.2-192.0.2.3", "", "not an IPv4 address"},
		{"192.0.2.1", "8000-7000", "write 7000-8000"},
		{"192.0.2.1", "0", "lowest is 1"},
		{"192.0.2.1", "0-100", "lowest is 1"},
		{"192.0.2.1", "65536", "1 to 65535"},
		{"192.0.2.1", "-1", "not a port"},
		{"192.0.2.1", "1-", "not a port"},
		{"192.0.2.1", "1-2-3", "not a port"},
		{"192.0.2.1", "007", "leading zeros"},
		{"192.0.2.1", "+7", "not a port"},
		{"192.0.2.1", "http", "not a port"},
		{"192.0.2.1", "7000 - 8000", "not a port"},
	} {
		entries, err := ParseRange(c.addresses, c.ports)
		switch {
		case err == nil:
			t.Errorf("%q %q is accepted as %v", c.addresses, c.ports, entries)
		case !strings.HasPrefix(err.Error(), "pool4: ") || !strings.Contains(err.Error(), c.says):
			t.Errorf("%q %q: %v; want a word on %q", c.addresses, c.ports, err, c.says)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	f.Add("192.0.2.15", "7000-8000")
	f.Add("192.0.2.0/28", "")
	f.Add("192.0.2.1-192.0.2.9", "0")
	f.Add("255.255.255.255-0.0.0.0", "65535-1")
	f.Fuzz(func(t *testing.T, addresses, ports string) {
		entries, err := ParseRange(addresses, ports)
		if err != nil {
			return
		}
		if len(entries) == 0 || len(entries) > 3*maxAddresses {
			t.Fatalf("%d entries", len(entries))
		}
		for _, e := range []Entry{entries[0], entries[len(entries)-1]} {
			if err := e.check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAddRefusesBadEntries(t *testing.T) {
	t.Parallel()
	good := netip.MustParseAddr("192.0.2.1")
	for _, e := range []Entry{
		{},
		{Addr: netip.MustParseAddr("2001:db8::1"), Lo: 1, Hi: 2},
		{Addr: netip.MustParseAddr("127.0.0.1"), Lo: 1, Hi: 2},
		{Addr: good, Lo: 2, Hi: 1},
		{Addr: good, Lo: 0, Hi: 1},
		{Addr: good, Proto: packet.Protos, Lo: 1, Hi: 1},
	} {
		p := New([16]byte{})
		if _, _, err := p.Add([]Entry{{Addr: good, Lo: 1, Hi: 2}, e}); err == nil {
			t.Errorf("Add(%+v) succeeds", e)
		}
		if len(p.Usage()) != 0 {
			t.Errorf("Add(%+v) fails, but leaves %v", e, p.Usage())
		}
		if _, err := p.Remove([]Entry{e}); err == nil {
			t.Errorf("Remove(%+v) succeeds", e)
		}
	}
}

func TestSplitSeparatesPorts(t *testing.T) {
	t.Parallel()
	for word, want := range map[string][2]string{
		"10.0.2.15":           {"10.0.2.15", ""},
		"10.0.2.15:7000-8000": {"10.0.2.15", "7000-8000"},
		"10.0.2.15#7000":      {"10.0.2.15", "7000"},
		"10.0.2.0/28  7000":   {"10.0.2.0/28", "7000"},
		"2001:db8::1":         {"2001:db8::1", ""},
		"":                    {"", ""},
	} {
		if a, ports := Split(word); a != want[0] || ports != want[1] {
			t.Errorf("%q: addresses %q, ports %q; want %q", word, a, ports, want)
		}
	}
}
