package config_test

import (
	"fmt"
	"strings"
	"testing"

	"nat64d/config"
)

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.1:80":              "192.0.2.1:80",
		"192.0.2.1:8000-8100":       "192.0.2.1:8000-8100",
		"192.0.2.1#80":              "192.0.2.1:80",
		"[2001:db8::5]:80":          "[2001:db8::5]:80",
		"[2001:db8::5]:8000-8100":   "[2001:db8::5]:8000-8100",
		"2001:db8::5#80":            "[2001:db8::5]:80",
		"[2001:db8::5]#80-81":       "[2001:db8::5]:80-81",
		"192.0.2.1:80-80":           "192.0.2.1:80",
		"192.0.2.1:0":               "192.0.2.1:0",
		"[64:ff9b::192.0.2.1]:9":    "[64:ff9b::c000:201]:9",
		"192.0.2.1:65535":           "192.0.2.1:65535",
		"[2001:DB8::5]:65535-65535": "[2001:db8::5]:65535",
	} {
		if e, err := config.ParseEndpoint(text); err != nil || e.String() != want {
			t.Errorf("%s is %v (%v), want %s", text, e, err, want)
		}
	}
	const wrong = " is not an address with a port: write 192.0.2.1:80 or [2001:db8::5]:80, or 8000-8100 for a range of ports"
	for text, want := range map[string]string{
		"":                       `""` + wrong,
		"192.0.2.1":              `"192.0.2.1"` + wrong,
		"2001:db8::5":            `"2001:db8::5"` + wrong,
		"2001:db8::5:80":         `"2001:db8::5:80"` + wrong,
		"[2001:db8::5]":          `"[2001:db8::5]"` + wrong,
		"[192.0.2.1]:80":         `"[192.0.2.1]:80"` + wrong,
		"[fe80::1%eth0]:80":      `"[fe80::1%eth0]:80"` + wrong,
		"[::ffff:192.0.2.1]:80":  `"[::ffff:192.0.2.1]:80"` + wrong,
		"192.0.2.1:":             `"192.0.2.1:"` + wrong,
		"192.0.2.1:080":          `"192.0.2.1:080"` + wrong,
		"192.0.2.1:65536":        `"192.0.2.1:65536"` + wrong,
		"192.0.2.1:80-":          `"192.0.2.1:80-"` + wrong,
		"192.0.2.1:8100-8000":    "192.0.2.1:8100-8000: the range is reversed: write 8000-8100",
		"192.0.2.0/24:80":        `"192.0.2.0/24:80"` + wrong,
		"example.org:80":         `"example.org:80"` + wrong,
		"[[2001:db8::5]]:80":     `"[[2001:db8::5]]:80"` + wrong,
		"192.0.2.1:80 192.0.2.1": `"192.0.2.1:80 192.0.2.1"` + wrong,
	} {
		if e, err := config.ParseEndpoint(text); err == nil || err.Error() != want {
			t.Errorf("%s is %v\ngot  %v\nwant %s", text, e, err, want)
		}
	}
}

func TestParseBinding(t *testing.T) {
	t.Parallel()
	bs, err := config.ParseBinding(nil, "[2001:db8::5]:8000-8002", "192.0.2.1:9000-9002")
	const want = "[tcp 192.0.2.1 9000-9002 [2001:db8::5]:8000-8002 udp 192.0.2.1 9000-9002 [2001:db8::5]:8000-8002 icmp 192.0.2.1 9000-9002 [2001:db8::5]:8000-8002]"
	if got := fmt.Sprint(bs); err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	bs, err = config.ParseBinding([]string{"icmp"}, "2001:db8::5#0", "192.0.2.1#7")
	if got := fmt.Sprint(bs); err != nil || got != "[icmp 192.0.2.1 7 [2001:db8::5]:0]" {
		t.Errorf("got %s, %v", got, err)
	}
	tests := []struct{ protocols, client, mapped, want string }{
		{"tcp", "[2001:db8::5]:80", "192.0.2.1", `"192.0.2.1" is not an address with a port: write 192.0.2.1:80 or [2001:db8::5]:80, or 8000-8100 for a range of ports`},
		{"tcp", "192.0.2.1:80", "[2001:db8::5]:80", "192.0.2.1:80: the client must be a unicast IPv6 address, such as [2001:db8::5]:80"},
		{"tcp", "[ff02::1]:80", "192.0.2.1:80", "[ff02::1]:80: the client must be a unicast IPv6 address, such as [2001:db8::5]:80"},
		{"tcp", "[fe80::1]:80", "192.0.2.1:80", "[fe80::1]:80: the client must be a unicast IPv6 address, such as [2001:db8::5]:80"},
		{"tcp", "[2001:db8::5]:80", "[2001:db8::5]:80", "[2001:db8::5]:80: the client is mapped to an IPv4 address, such as 192.0.2.1:80"},
		{"tcp", "[2001:db8::5]:80", "224.0.0.1:80", "224.0.0.1:80: 224.0.0.1 is a multicast address: pool4 needs unicast addresses that are routed to this machine"},
		{"tcp", "[2001:db8::5]:80-90", "192.0.2.1:80", "[2001:db8::5]:80-90 has 11 ports, but 192.0.2.1:80 has 1; they must be equally many"},
		{"tcp", "[2001:db8::5]:0", "192.0.2.1:80", "[2001:db8::5]:0: tcp has no port 0: the lowest is 1 (only ICMP Identifiers begin at 0)"},
		{"all", "[2001:db8::5]:80", "192.0.2.1:0", "192.0.2.1:0: ports 0-0: tcp has no port 0: the lowest is 1 (only ICMP Identifiers begin at 0)"},
		{"sctp", "[2001:db8::5]:80", "192.0.2.1:80", `protocol "sctp": must be tcp, udp or icmp, each once, or all`},
		{"tcp,tcp", "[2001:db8::5]:80", "192.0.2.1:80", `protocol "tcp": must be tcp, udp or icmp, each once, or all`},
	}
	for _, tt := range tests {
		bs, err := config.ParseBinding(strings.Split(tt.protocols, ","), tt.client, tt.mapped)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s %s %s gave %v\ngot  %v\nwant %s", tt.protocols, tt.client, tt.mapped, bs, err, tt.want)
		}
	}
}

const bibPool4 = "pool4: [ { address: 192.0.2.1-192.0.2.2, ports: 7000-8000, protocols: [udp] } ]\n"

func TestBindings(t *testing.T) {
	t.Parallel()
	c := parse(t, bibPool4+`bib:
  - { proto: tcp, v6: "[2001:db8::5]:80", v4: "192.0.2.1:80" }
  - { proto: "tcp, udp", v6: "[2001:db8::5]:8000-8100", v4: "192.0.2.1:8000-8100" }
  - { proto: all, v6: "[2001:db8::6]:80", v4: "192.0.2.2:80" }
  - { proto: tcp, v6: "[2001:db8::5]:81", v4: "192.0.2.1:81" }
`)
	if len(c.Bindings) != 7 || c.Bindings[1].String() != "tcp 192.0.2.1 8000-8100 [2001:db8::5]:8000-8100" || c.Bindings[6].Client.Port() != 81 {
		t.Errorf("bindings are %v", c.Bindings)
	}
}

func TestBindingsRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ rows, want string }{
		{`{ proto: tcp }`, `f:3: bib[0].v6: missing; write it like "[2001:db8::5]:80"` + "\n" + "f:3: bib[0].v4: missing; write it like 192.0.2.1:80"},
		{`{ proto: sctp, v6: "[2001:db8::5]:80", v4: "192.0.2.1:80" }`, `f:3: bib[0]: protocol "sctp": must be tcp, udp or icmp, each once, or all`},
		{`{ proto: all, v6: "[2001:db8::5]:80", v4: "192.0.2.3:80" }`, "f:3: bib[0].v4: 192.0.2.3 is no address of pool4; add it to pool4, with any ports"},
		{`{ proto: all, v6: "[64:ff9b::1]:80", v4: "192.0.2.1:80" }`, "f:3: bib[0].v6: 64:ff9b::1 lies in pool6, where no client can be"},
		{
			`{ proto: tcp, v6: "[2001:db8::5]:100-199", v4: "192.0.2.1:100-199" }
  - { proto: udp, v6: "[2001:db8::5]:100-199", v4: "192.0.2.1:100-199" }
  - { proto: tcp, v6: "[2001:db8::6]:110-119", v4: "192.0.2.1:110-119" }
  - { proto: tcp, v6: "[2001:db8::7]:199", v4: "192.0.2.1:199" }`,
			"f:5: bib[2].v4: tcp 192.0.2.1:110-119 is bound by bib[0] already\nf:6: bib[3].v4: tcp 192.0.2.1:199 is bound by bib[0] already",
		},
		{
			`{ proto: tcp, v6: "[2001:db8::5]:100", v4: "192.0.2.1:100" }
  - { proto: tcp, v6: "[2001:db8::5]:99-100", v4: "192.0.2.2:99-100" }`,
			"f:4: bib[1].v6: tcp [2001:db8::5]:100 is bound by bib[0] already",
		},
	}
	for _, tt := range tests {
		_, err := config.Parse("f", strings.NewReader(bibPool4+"bib:\n  - "+tt.rows), named)
		if err == nil || err.Error() != tt.want {
			t.Errorf("%s\ngot  %v\nwant %s", tt.rows, err, tt.want)
		}
	}
}

// FuzzParseEndpoint checks that ParseEndpoint reads what String returns.
func FuzzParseEndpoint(f *testing.F) {
	f.Add("[2001:db8::5]:8000-8100")
	f.Add("2001:db8::5#80")
	f.Add("192.0.2.1:0-65535")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := config.ParseEndpoint(text)
		if err != nil {
			return
		}
		again, err := config.ParseEndpoint(e.String())
		if err != nil || again != e || e.Lo > e.Hi {
			t.Errorf("%q is %v, that is %v (%v)", text, e, again, err)
		}
	})
}
