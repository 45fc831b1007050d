package dns64

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSnippets(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, "64:ff9b::/96", "2001:db8:122:344::/64")
	p.TranslateAll, p.Suffix = []string{"example.net."}, netip.MustParseAddr("::1")
	s := Surroundings{Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, Resolver: netip.MustParseAddr("2001:db8::53"), Interface: "eth0"}
	for server, want := range map[string][]string{
		"bind":     {"dns64 64:ff9b::/96 {", "clients { 2001:db8::/32; };", "!10.0.0.0/8; ", "exclude { ::ffff:0.0.0.0/96; };", "suffix ::1;", "break-dnssec no;"},
		"unbound":  {"dns64-prefix: 64:ff9b::/96\n", "\tdns64-ignore-aaaa: \"example.net.\"\n", "ipv4only.arpa. 86400 IN AAAA 64:ff9b::c000:aa"},
		"coredns":  {"dns64 64:ff9b::/96 {\n\tallow_ipv4\n}"},
		"radvd":    {"interface eth0 {", "nat64prefix 64:ff9b::/96 {", "RDNSS 2001:db8::53 {"},
		"networkd": {"[IPv6PREF64Prefix]\nPrefix=64:ff9b::/96\n", "DNS=2001:db8::53"},
	} {
		text, err := p.Snippet(server, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is missing in\n%s", server, w, text)
			}
		}
	}
	if len(Servers()) != len(snippets) {
		t.Errorf("%v are not all", Servers())
	}
	if _, err := p.Snippet("dnsmasq", s); err == nil || !strings.Contains(err.Error(), "use bind, unbound, coredns, radvd, networkd") {
		t.Errorf("got %v", err)
	}
}
