package dns64

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestSnippets(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, "64:ff9b::/96", "2001:db8:122:344::/64")
	p.Choice, p.TranslateAll, p.Suffix = All, []string{"example.net."}, netip.MustParseAddr("::1")
	s := Surroundings{Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, Resolver: netip.MustParseAddr("2001:db8::53"), Interface: "eth0"}
	for server, want := range map[string][]string{
		"bind":    {"dns64 64:ff9b::/96 {", "clients { 2001:db8::/32; };", "!10.0.0.0/8; ", "exclude { ::ffff:0.0.0.0/96; };", "suffix ::1;", "break-dnssec no;"},
		"unbound": {"dns64-prefix: 64:ff9b::/96\n", "\tdns64-ignore-aaaa: \"example.net.\"\n", "ipv4only.arpa. 86400 IN AAAA 64:ff9b::c000:aa"},
		"coredns": {"dns64 {\n\tprefix 64:ff9b::/96\n\tallow_ipv4\n}"},
		"radvd": {
			"interface eth0 {\n\tAdvSendAdvert on;\n\tAdvDefaultLifetime 0;\n", "RDNSS 2001:db8::53 {",
			"nat64prefix 64:ff9b::/96 {", "\troute 64:ff9b::/96 {\n\t\tAdvRouteLifetime 1800;\n\t};\n",
			"nat64prefix 2001:db8:122:344::/64 {", "\troute 2001:db8:122:344::/64 {\n",
		},
		"networkd": {
			"[IPv6SendRA]\nRouterLifetimeSec=0\nDNS=2001:db8::53\n",
			"[IPv6PREF64Prefix]\nPrefix=64:ff9b::/96\n", "[IPv6RoutePrefix]\nRoute=64:ff9b::/96\nLifetimeSec=1800\n",
			"[IPv6PREF64Prefix]\nPrefix=2001:db8:122:344::/64\n", "[IPv6RoutePrefix]\nRoute=2001:db8:122:344::/64\n",
		},
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
	s.Local, s.Reach, s.Wildcard = netip.MustParseAddrPort("[::1]:53"), netip.MustParseAddrPort("[2001:db8::53]:5353"), true
	for server, want := range map[string][]string{
		"resolved":     {"[Resolve]\nDNS=::1\nDomains=~.\n", "\nDNSSEC=no\n", "\nDNSStubListener=no\n"},
		"resolvconf":   {"\nnameserver ::1\noptions edns0\n"},
		"nodelocaldns": {"\n.:53 {\n", "\n    forward . ::1\n", "give it another"},
		"coredns":      {"dns64 {\n\tprefix 64:ff9b::/96\n\tallow_ipv4\n}", "\n#\tforward . [2001:db8::53]:5353\n"},
	} {
		if text := snippetOf(t, p, server, s); !containsAll(text, want) {
			t.Errorf("%s: %q is missing in\n%s", server, want, text)
		}
	}
	if len(Servers()) != len(snippets) {
		t.Errorf("%v are not all", Servers())
	}
	if _, err := p.Snippet("dnsmasq", s); err == nil || !strings.Contains(err.Error(), "use bind, unbound, coredns, radvd, networkd") {
		t.Errorf("got %v", err)
	}
}

func snippetOf(t *testing.T, p *Policy, server string, s Surroundings) string {
	t.Helper()
	text, err := p.Snippet(server, s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func containsAll(text string, parts []string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// Snippets for the node have its address of DNS64, with another port if the file can have one, or a placeholder.
func TestSnippetsOfTheNode(t *testing.T) {
	t.Parallel()
	p := testPolicy(t)
	other := Surroundings{Local: netip.MustParseAddrPort("127.0.0.1:5353")}
	for server, want := range map[string]string{"resolved": "DNS=127.0.0.1:5353\n", "resolvconf": "cannot name port 5353", "nodelocaldns": "forward . 127.0.0.1:5353\n"} {
		text := snippetOf(t, p, server, other)
		if !strings.Contains(text, want) || strings.Contains(text, "ADDRESS") || strings.Contains(text, "DNSStubListener") {
			t.Errorf("%s: %q is missing, or more is there, in\n%s", server, want, text)
		}
		if text := snippetOf(t, p, server, Surroundings{}); !strings.Contains(text, "\n# ADDRESS stands for a resolver with DNS64") {
			t.Errorf("%s: no placeholder in\n%s", server, text)
		}
	}
	p.TranslateAll = []string{"."}
	if text := snippetOf(t, p, "coredns", other); !strings.Contains(text, "a server block of their own, without dns64") {
		t.Errorf("no warning of translate_all in\n%s", text)
	}
}

// Without the name of an interface, the snippet has a placeholder.
func TestSnippetsWithoutAnInterface(t *testing.T) {
	t.Parallel()
	for server, want := range map[string]string{
		"radvd":    "\n# INTERFACE stands for the one that they are behind: interfaces.v6.name, which would say it, is not set.\ninterface INTERFACE {\n",
		"networkd": "# Into the .network file of the interface that hosts are behind, of systemd 255",
	} {
		text, err := testPolicy(t).Snippet(server, Surroundings{})
		if err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %v: %q is missing in\n%s", server, err, want, text)
		}
	}
}

// A snippet has the settings that the server supports and lists the others.
func TestSnippetsOfSettings(t *testing.T) {
	t.Parallel()
	ranges := []Range{{netip.MustParsePrefix("198.51.100.0/24"), 1}, {netip.MustParsePrefix("198.51.100.128/25"), 0}}
	for _, row := range []struct {
		name, server string
		set          func(*Policy)
		want, not    []string
	}{
		{"the first", "bind", func(*Policy) {}, []string{"dns64 64:ff9b::/96 {"}, []string{"344::/64", "unknown"}},
		{"all", "bind", func(p *Policy) { p.Choice = All }, []string{"dns64 64:ff9b::/96 {", "dns64 2001:db8:122:344::/64 {"}, []string{"unknown"}},
		{"by turns", "bind", func(p *Policy) { p.Choice = RoundRobin }, []string{"// What is set here and unknown there: prefix_policy.\n"}, []string{"344::/64"}},
		{"ranges", "bind", func(p *Policy) { p.Ranges = ranges },
			[]string{"198.51.100.128/25; !198.51.100.0/24; any; };", "!198.51.100.128/25; 198.51.100.0/24; };"}, []string{"unknown"}},
		{"mapped", "bind", func(p *Policy) { p.Mapped = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")} }, []string{"!{ !203.0.113.0/24; any; }; any; };"}, nil},
		{"translate_all", "bind", func(p *Policy) { p.TranslateAll = []string{"."} }, []string{"exclude { any; };"}, []string{"unknown"}},
		{"translate_all for a domain", "bind", func(p *Policy) { p.TranslateAll = []string{"example.net."} }, []string{"unknown there: translate_all for domains."}, []string{"exclude { any; };"}},
		{"recursive_only", "bind", func(p *Policy) { p.RecursiveOnly = true }, []string{"recursive-only yes;"}, nil},
		{"clients", "unbound", func(*Policy) {}, []string{"access-control: 2001:db8::/32 allow\n", "AAAA 64:ff9b::c000:aa\""}, []string{"2001:db8:122:344"}},
		{"exclude any", "unbound", func(p *Policy) { p.Exclude = []netip.Prefix{netip.MustParsePrefix("::/0")} }, []string{"dns64-synthall: yes"}, nil},
		{"translate_all", "unbound", func(p *Policy) { p.TranslateAll = []string{"."} }, []string{"dns64-synthall: yes"}, nil},
		{"unsupported settings", "unbound", func(p *Policy) {
			p.Choice, p.Ranges, p.Mapped, p.Suffix = All, ranges, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, netip.MustParseAddr("::1")
		}, []string{"# What is set here and unknown there: prefix_policy, ranges, mapped, suffix.\n"}, nil},
		{"defaults", "bind", func(p *Policy) { p.ServfailOnError = false }, []string{"// What is set here and unknown there: on_aaaa_error.\n"}, nil},
		{"defaults", "unbound", func(p *Policy) { *p = *testPolicy(t, "64:ff9b::/96") }, []string{"# What is set here and unknown there: private_v4, exclude.\n"}, nil},
		{"defaults", "coredns", func(p *Policy) { *p = *testPolicy(t, "64:ff9b::/96") }, []string{"# What is set here and unknown there: private_v4, exclude.\n"}, nil},
		{"exclude any", "coredns", func(p *Policy) { p.Exclude = []netip.Prefix{netip.MustParsePrefix("::/0")} }, []string{"translate_all\n"}, nil},
		{"unsupported settings", "coredns", func(p *Policy) { p.RecursiveOnly, p.ServfailOnError = true, true }, []string{"unknown there: recursive_only, on_aaaa_error.\n"}, nil},
	} {
		t.Run(row.server+" "+row.name, func(t *testing.T) {
			t.Parallel()
			p := testPolicy(t, "64:ff9b::/96", "2001:db8:122:344::/64")
			p.Prefixes[0].Private, p.Exclude, p.ServfailOnError = row.server != "bind", nil, row.server == "bind" // what each does anyway
			row.set(p)
			text, err := p.Snippet(row.server, Surroundings{Clients: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range row.want {
				if !strings.Contains(text, w) {
					t.Errorf("%q is missing in\n%s", w, text)
				}
			}
			for _, w := range row.not {
				if strings.Contains(text, w) {
					t.Errorf("%q is in\n%s", w, text)
				}
			}
		})
	}
}
