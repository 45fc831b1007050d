package config_test

import (
	"fmt"
	"strings"
	"testing"

	"nat64d/config"
)

func TestDNS64(t *testing.T) {
	t.Parallel()
	const on = "dns64: { enabled: true, upstreams: [192.0.2.53], "
	for _, row := range []struct {
		text string
		get  func(config.DNS64) any
		want string
	}{
		{on + "}", func(n config.DNS64) any { return n.Listen }, "[[::]:53]"},
		{on + "exclude: any }", func(n config.DNS64) any { return n.Exclude }, "[::/0]"},
		{on + "exclude: [] }", func(n config.DNS64) any { return n.Exclude }, "[]"},
		{on + "exclude: ['::ffff:0:0/96', '64:ff9b::/96'] }", func(n config.DNS64) any { return n.Exclude }, "[::ffff:0.0.0.0/96 64:ff9b::/96]"},
		{on + "translate_all: true }", func(n config.DNS64) any { return n.TranslateAll }, "[.]"},
		{on + "translate_all: no }", func(n config.DNS64) any { return n.TranslateAll }, "[]"},
		{on + "translate_all: [Example.net] }", func(n config.DNS64) any { return n.TranslateAll }, "[example.net.]"},
		{on + "zones: ['Cluster.local=fd00::a', 'cluster.local.=192.0.2.10:5353', 'corp.example=tls://[2001:db8::53]#dns.corp.example'] }",
			func(n config.DNS64) any { return n.Zones },
			"[cluster.local=[fd00::a]:53 cluster.local=192.0.2.10:5353 corp.example=tls://[2001:db8::53]:853#dns.corp.example]"},
		{on + "listen_tls: ['[::]:853'], tls_certificate: /etc/nat64d/dns.crt, tls_key: /etc/nat64d/dns.key }", func(n config.DNS64) any { return n.TLS },
			"{[[::]:853] /etc/nat64d/dns.crt /etc/nat64d/dns.key}"},
		{on + "listen: [], listen_tls: ['[::1]:853'], tls_certificate: /c, tls_key: /k }", func(n config.DNS64) any { return n.Listen }, "[]"},
		{on + "never_synthesize: [cluster.local, Example.net.], translate_all: true }", func(n config.DNS64) any { return n.Never }, "[cluster.local. example.net.]"},
		{on + "never_synthesize: true }", func(n config.DNS64) any { return n.Never }, "[.]"},
		{on + "}", func(n config.DNS64) any { return n.EmptyA }, "false"},
		{on + "a_records: empty }", func(n config.DNS64) any { return n.EmptyA }, "true"},
		{on + "ranges: [198.51.100.0/24=64:ff9b::/96] }", func(n config.DNS64) any { return n.Ranges }, "[198.51.100.0/24=64:ff9b::/96]"},
		{on + "clients: [192.0.2.0/24, '2001:db8::/32'] }", func(n config.DNS64) any { return n.Clients }, "[192.0.2.0/24 2001:db8::/32]"},
		{on + "clients: ['::/0'], listen: ['[fd00::53]:53', '127.0.0.1:53'] }", func(n config.DNS64) any { return n.Clients }, "[::/0]"},
		{on + "clients: ['::/0'], open: yes }", func(n config.DNS64) any { return n.Open }, "true"},
		{on + "on_aaaa_error: servfail }", func(n config.DNS64) any { return n.ServfailError }, "true"},
		{"dns64: { enabled: on, upstreams: ['tcp://192.0.2.53', '[2001:db8::53]:5353', 'tls://192.0.2.53#dns.example', 'tls://[2001:db8::53]:853'] }",
			func(n config.DNS64) any { return n.Upstreams },
			"[tcp://192.0.2.53:53 [2001:db8::53]:5353 tls://192.0.2.53:853#dns.example tls://[2001:db8::53]:853]"},
		{"dns64: { enabled: on, upstreams: ['[fe80::1%eth0]:5353', 'fe80::1%eth0.7', 'tcp://[fe80::1%2]', '192.0.2.53:5353', '2001:db8::53', 'tls://fe80::1%br-lan#dns.example'] }",
			func(n config.DNS64) any { return n.Upstreams },
			"[[fe80::1%eth0]:5353 [fe80::1%eth0.7]:53 tcp://[fe80::1%2]:53 192.0.2.53:5353 [2001:db8::53]:53 tls://[fe80::1%br-lan]:853#dns.example]"},
	} {
		if got := fmt.Sprint(row.get(parse(t, row.text).DNS64)); got != row.want {
			t.Errorf("%s: got %s, want %s", row.text, got, row.want)
		}
	}
}

func TestDNS64Refused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"enabled: true": "dns64.upstreams: is empty; name the resolvers to ask, such as 192.0.2.53",
		"enabled: true, upstreams: [192.0.2.53], listen: []":            "dns64.listen: is empty",
		"enabled: true, upstreams: [192.0.2.53], clients: ['::/0']":     "makes DNS64 on [::]:53 an open resolver",
		"enabled: true, upstreams: [192.0.2.53], clients: ['2000::/3']": "open resolver",
		"enabled: true, upstreams: [192.0.2.53], clients: [0.0.0.0/0]":  "open resolver",
		"upstreams: [dns.example]":                                      "dns64.upstreams[0]: is \"dns.example\", but \"dns.example\" is not an IP address; use one such as",
		"upstreams: ['https://192.0.2.53']":                             "must begin with udp://, tcp://, tls:// or the address",
		"upstreams: ['192.0.2.53#dns.example']":                         "a name behind # is that of a certificate",
		"upstreams: ['tls://192.0.2.53#']":                              "behind # must be a name such as dns.example",
		"upstreams: ['192.0.2.53:0']":                                   "\"0\" is not a port, of which there are 1 to 65535",
		"upstreams: ['192.0.2.53:65536']":                               "\"65536\" is not a port",
		"upstreams: ['[2001:db8::53]:x']":                               "\"x\" is not a port",
		"upstreams: ['[2001:db8::53]:']":                                "\"\" is not a port",
		"upstreams: ['192.0.2.53:-53']":                                 "\"-53\" is not a port",
		"upstreams: ['[192.0.2.53]:53']":                                "brackets must be around an IPv6 address",
		"upstreams: ['[2001:db8::53']":                                  "brackets must be around an IPv6 address",
		"upstreams: ['[2001:db8::53%eth0]:53']":                         "2001:db8::53 is not link-local and must not name an interface (%eth0)",
		"upstreams: ['[fd00::53%eth0]:53']":                             "must not name an interface (%eth0)",
		"upstreams: ['[fe80::1]:53']":                                   "fe80::1 is link-local and needs the interface that it is behind, as in fe80::1%eth0",
		"upstreams: ['[fe80::1%]:53']":                                  "is not an IP address",
		"upstreams: ['192.0.2.53%eth0']":                                "is not an IP address",
		"upstreams: ['ff02::1%eth0']":                                   "is no address of a host",
		"upstreams: [255.255.255.255]":                                  "is no address of a host",
		"upstreams: ['::']":                                             "is no address of a host",
		"listen: ['[2001:db8::1%eth0]:53']":                             "dns64.listen[0]: is \"[2001:db8::1%eth0]:53\", but 2001:db8::1 is not link-local",
		"suffix: '::1'":                                                 "dns64.suffix: is ::1, but behind a /96, as all prefixes of pool6 are, there are no bits left",
		"listen: ['[::]']":                                              "dns64.listen[0]: is \"[::]\", but must be an address and a port",
		"ranges: [198.51.100.0/24]":                                     "dns64.ranges[0]: is",
		"ranges: ['198.51.100.0/24=2001:db8:65::/96']":                  "is not a prefix of pool6, which has 64:ff9b::/96",
		"exclude: [10.0.0.0/8]":                                         "dns64.exclude[0]: is \"10.0.0.0/8\", but must be an IPv6 prefix",
		"translate_all: ['-?-']":                                        "must be a domain such as example.net, or true",
		"zones: [cluster.local]":                                        "dns64.zones[0]: is \"cluster.local\", but must be a domain and its resolver, such as cluster.local=10.96.0.10",
		"zones: ['a..b=192.0.2.53']":                                    "must be a domain and its resolver",
		"zones: ['.=192.0.2.53']":                                       "the resolvers of all other names belong into dns64.upstreams",
		"zones: ['a.example=dns']":                                      "dns64.zones[0]: is \"dns\", but \"dns\" is not an IP address",
		"zones: ['ipv4only.arpa=192.0.2.53']":                           "DNS64 itself answers for ipv4only.arpa",
		"zones: ['a.example=192.0.2.53', 'A.example.=192.0.2.53:53']":   "dns64.zones[1]: is \"A.example.=192.0.2.53:53\", which is there already",
		"listen_tls: ['[::]']":                                          "dns64.listen_tls[0]: is \"[::]\", but must be an address and a port, such as [2001:db8::53]:853",
		"listen_tls: ['[::]:853']":                                      "dns64.tls_certificate: is empty, but dns64.listen_tls needs the file with the certificate and its chain in PEM",
		"listen_tls: ['[::]:853'], tls_certificate: /c":                 "dns64.tls_key: is empty",
		"tls_key: dns.key":                                              "dns64.tls_key: is \"dns.key\", but must be the absolute path",
		"listen_tls: ['[::]:53'], tls_certificate: /c, tls_key: /k":     "dns64.listen_tls[0]: is [::]:53, which dns64.listen has already",
		"enabled: true, upstreams: [192.0.2.53], clients: ['::/0'], listen: ['127.0.0.1:53'], listen_tls: ['[::]:853'], tls_certificate: /c, tls_key: /k": "makes DNS64 on [::]:853 an open resolver",
		"never_synthesize: ['*.example.net']":                             "dns64.never_synthesize[0]: is \"*.example.net\", but must be a domain",
		"translate_all: [a.example.net], never_synthesize: [example.net]": "dns64.translate_all[0]: a.example.net. is never synthesized because dns64.never_synthesize has example.net.; remove",
		"a_records: none":                     "must be one of pass, empty",
		"suffix: 192.0.2.1":                   "dns64.suffix: is",
		"udp_size: 100":                       "dns64.udp_size: is 100, but must be 512 to 4096",
		"cache: { min_ttl: 2h, max_ttl: 1h }": "must not be more than max_ttl",
		"prefix_policy: best":                 "must be one of first, all, round_robin, random, client_hash",
	} {
		_, err := config.Parse("f", strings.NewReader("dns64: { "+text+" }"), named)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	_, err := config.Parse("f", strings.NewReader("allow_v6: ['2000::/3']\ndns64: { enabled: true, upstreams: [192.0.2.53] }"), named)
	if err == nil || !strings.Contains(err.Error(), "allow_v6[0]: 2000::/3 makes DNS64 on [::]:53 an open resolver") {
		t.Errorf("got %v", err)
	}
	_, err = config.Parse("f", strings.NewReader("pool6: [ { prefix: 2001:db8::/32 } ]\ndns64: { suffix: '::1:0:0:1' }"), named)
	if err != nil {
		t.Error(err)
	}
	if _, err = config.Parse("f", strings.NewReader("pool6: [ { prefix: 64:ff9b::/96 }, { prefix: 2001:db8::/32 } ]\ndns64: { suffix: '::1' }"), named); err != nil {
		t.Error(err)
	}
	_, err = config.Parse("f", strings.NewReader("pool6: [ { prefix: 2001:db8::/32 } ]\ndns64: { suffix: '0:0:1::' }"), named)
	if err == nil || !strings.Contains(err.Error(), "has bits where 2001:db8::/32 and the IPv4 address stand") {
		t.Errorf("got %v", err)
	}
}
