package dns64

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"nat64d/pool6"
)

// Surroundings are what a snippet needs to know beside the Policy.
type Surroundings struct {
	Clients   []netip.Prefix // empty: any
	Resolver  netip.Addr     // whom clients are to ask; the zero Addr: not known
	Interface string         // of the IPv6 side
}

// snippets are templates of what has another server agree with a Policy, by the name of the server.
var snippets = map[string]string{
	"bind": `// Into the section options of named.conf. BIND makes an address behind each prefix.
{{range .Prefixes -}}
dns64 {{.Prefix}} {
	clients { {{range $.Clients}}{{.}}; {{else}}any; {{end}}};
	mapped { {{range $.Mapped .}}{{.}}; {{end}}};
	exclude { {{range $.Exclude}}{{.}}; {{end}}};
{{- if $.Suffixed .}}
	suffix {{$.Suffix}};{{end}}
	break-dnssec {{if $.BreakDNSSEC}}yes{{else}}no{{end}};
};
{{end}}`,
	"unbound": `# Into unbound.conf. Unbound has one prefix, excludes nothing and does not know ipv4only.arpa.
server:
	module-config: "dns64 validator iterator"
	dns64-prefix: {{(index .Prefixes 0).Prefix}}
{{- range .TranslateAll}}
{{if eq . "."}}	dns64-synthall: yes{{else}}	dns64-ignore-aaaa: "{{.}}"{{end}}{{end}}
	local-zone: "ipv4only.arpa." static
	local-data: "ipv4only.arpa. 86400 IN A 192.0.0.170"
	local-data: "ipv4only.arpa. 86400 IN A 192.0.0.171"
{{- range .Discovery}}
	local-data: "ipv4only.arpa. 86400 IN AAAA {{.}}"{{end}}
`,
	"coredns": `# Into a server block of the Corefile, before forward. CoreDNS has one prefix.
dns64 {{(index .Prefixes 0).Prefix}} {
	allow_ipv4
{{- if .All}}
	translate_all{{end}}
}
`,
	"radvd": `# Into radvd.conf, of radvd 2.20 or newer: hosts learn the prefix by router advertisements (RFC 8781).
interface {{.Interface}} {
	AdvSendAdvert on;
{{- range .Prefixes}}
	nat64prefix {{.Prefix}} {
		AdvValidLifetime 1800;
	};{{end}}
{{- if .Resolver.IsValid}}
	RDNSS {{.Resolver}} {
	};{{end}}
};
`,
	"networkd": `# Into the .network file of {{.Interface}}, of systemd 255 or newer: hosts learn the prefix by router advertisements (RFC 8781).
[Network]
IPv6SendRA=yes
{{- if .Resolver.IsValid}}

[IPv6SendRA]
DNS={{.Resolver}}{{end}}
{{- range .Prefixes}}

[IPv6PREF64Prefix]
Prefix={{.Prefix}}
LifetimeSec=1800{{end}}
`,
}

// Servers are the names that Snippet knows.
func Servers() []string {
	return []string{"bind", "unbound", "coredns", "radvd", "networkd"}
}

// Snippet returns the part of a server's configuration that has it agree with p.
func (p *Policy) Snippet(server string, s Surroundings) (string, error) {
	text, ok := snippets[server]
	if !ok {
		return "", fmt.Errorf("dns64: there is no snippet for %q: use %s", server, strings.Join(Servers(), ", "))
	}
	var b strings.Builder
	err := template.Must(template.New(server).Parse(text)).Execute(&b, snippet{p, s})
	return b.String(), err
}

// snippet is what the templates see.
type snippet struct {
	*Policy
	Surroundings
}

// Mapped returns what BIND may embed behind a prefix, as an address match list.
func (s snippet) Mapped(p Prefix) []string {
	list := []string{"!0.0.0.0/8", "!127.0.0.0/8", "!169.254.0.0/16", "!224.0.0.0/3"}
	if !p.Private {
		for _, n := range pool6.NonGlobal4() {
			if text := "!" + n.String(); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	for _, m := range s.Policy.Mapped {
		list = append(list, m.String())
	}
	if len(s.Policy.Mapped) == 0 {
		list = append(list, "any")
	}
	return list
}

// Suffixed says whether there are bits behind the address in a prefix.
func (s snippet) Suffixed(p Prefix) bool {
	return s.Suffix.IsValid() && !s.Suffix.IsUnspecified() && p.Prefix.Prefix().Bits() < 96
}

// All says whether every name's own addresses make way.
func (s snippet) All() bool { return s.translatesAll(".") }

// Discovery returns the addresses of ipv4only.arpa.
func (s snippet) Discovery() (list []netip.Addr) {
	for _, p := range s.Prefixes {
		for _, v4 := range wellKnown4 {
			list = append(list, s.address(&p.Prefix, v4))
		}
	}
	return list
}
