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
		{on + "ranges: [198.51.100.0/24=64:ff9b::/96] }", func(n config.DNS64) any { return n.Ranges }, "[198.51.100.0/24=64:ff9b::/96]"},
		{on + "clients: [192.0.2.0/24, '2001:db8::/32'] }", func(n config.DNS64) any { return n.Clients }, "[192.0.2.0/24 2001:db8::/32]"},
		{on + "clients: ['::/0'], listen: ['[fd00::53]:53', '127.0.0.1:53'] }", func(n config.DNS64) any { return n.Clients }, "[::/0]"},
		{on + "clients: ['::/0'], open: yes }", func(n config.DNS64) any { return n.Open }, "true"},
		{on + "on_aaaa_error: servfail }", func(n config.DNS64) any { return n.ServfailError }, "true"},
		{"dns64: { enabled: on, upstreams: ['tcp://192.0.2.53', '[2001:db8::53]:5353', 'tls://192.0.2.53#dns.example', 'tls://[2001:db8::53]:853'] }",
			func(n config.DNS64) any { return n.Upstreams },
			"[tcp://192.0.2.53:53 [2001:db8::53]:5353 tls://192.0.2.53:853#dns.example tls://[2001:db8::53]:853]"},
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
		"upstreams: [dns.example]":                                      "dns64.upstreams[0]: is \"dns.example\", but must be one such as",
		"upstreams: ['https://192.0.2.53']":                             "must be one such as",
		"upstreams: ['192.0.2.53#dns.example']":                         "must be one such as",
		"upstreams: ['tls://192.0.2.53#']":                              "must be one such as",
		"listen: ['[::]']":                                              "dns64.listen[0]: is \"[::]\", but must be an address and a port",
		"ranges: [198.51.100.0/24]":                                     "dns64.ranges[0]: is",
		"ranges: ['198.51.100.0/24=2001:db8:65::/96']":                  "is not a prefix of pool6, which has 64:ff9b::/96",
		"exclude: [10.0.0.0/8]":                                         "dns64.exclude[0]: is \"10.0.0.0/8\", but must be an IPv6 prefix",
		"translate_all: ['-?-']":                                        "must be a domain such as example.net, or true",
		"suffix: 192.0.2.1":                                             "dns64.suffix: is",
		"udp_size: 100":                                                 "dns64.udp_size: is 100, but must be 512 to 4096",
		"cache: { min_ttl: 2h, max_ttl: 1h }":                           "must not be more than max_ttl",
		"prefix_policy: best":                                           "must be one of first, all, round_robin, random, client_hash",
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
	_, err = config.Parse("f", strings.NewReader("pool6: [ { prefix: 2001:db8::/32 } ]\ndns64: { suffix: '0:0:1::' }"), named)
	if err == nil || !strings.Contains(err.Error(), "has bits where 2001:db8::/32 and the IPv4 address stand") {
		t.Errorf("got %v", err)
	}
}
