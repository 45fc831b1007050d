package dns64

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"

	"nat64d/pool6"
)

// Surroundings has the data that a snippet needs in addition to the Policy.
type Surroundings struct {
	Clients   []netip.Prefix // empty: all
	Resolver  netip.Addr     // address of the resolver for clients; the zero Addr: not known
	Interface string         // of the IPv6 side; empty: not known
	Local     netip.AddrPort // where DNS64 answers the host itself; the zero AddrPort: DNS64 is off
	Reach     netip.AddrPort // where DNS64 answers other hosts; the zero AddrPort: not known
	Wildcard  bool           // DNS64 uses its port on all addresses of the host, so no other server can
}

// snippets has a template per server for a configuration that is equivalent to a Policy.
var snippets = map[string]string{
	"bind": `// Into the section options of named.conf.
{{- with .Unknown "bind"}}
// What is set here and unknown there: {{.}}.{{end}}
{{range .Blocks -}}
dns64 {{.Prefix}} {
	clients { {{range $.Clients}}{{.}}; {{else}}any; {{end}}};
	mapped { {{range .Mapped}}{{.}}; {{end}}};
	exclude { {{if $.All}}any; {{else}}{{range $.Exclude}}{{.}}; {{end}}{{end}}};
{{- if $.Suffixed .Prefix}}
	suffix {{$.Suffix}};{{end}}
{{- if $.RecursiveOnly}}
	recursive-only yes;{{end}}
	break-dnssec {{if $.BreakDNSSEC}}yes{{else}}no{{end}};
};
{{end}}`,
	"unbound": `# Into unbound.conf. Unbound has one prefix and does not know ipv4only.arpa.
{{- with .Unknown "unbound"}}
# What is set here and unknown there: {{.}}.{{end}}
server:
	module-config: "dns64 validator iterator"
	dns64-prefix: {{.First}}
{{- if .All}}
	dns64-synthall: yes{{else}}{{range .TranslateAll}}
	dns64-ignore-aaaa: "{{.}}"{{end}}{{end}}
{{- range .Clients}}
	access-control: {{.}} allow{{end}}
	local-zone: "ipv4only.arpa." static
	local-data: "ipv4only.arpa. 86400 IN A 192.0.0.170"
	local-data: "ipv4only.arpa. 86400 IN A 192.0.0.171"
{{- range .Discovery}}
	local-data: "ipv4only.arpa. 86400 IN AAAA {{.}}"{{end}}
`,
	"coredns": `# Into a server block of the Corefile, before forward. CoreDNS has one prefix.
{{- with .Unknown "coredns"}}
# What is set here and unknown there: {{.}}.{{end}}
{{- if .All}}
# translate_all also takes the IPv6 addresses of the names of this server block from them, those of the plugin kubernetes included:
# move such zones to a server block of their own, without dns64.{{end}}
{{- if .Reach.IsValid}}
# Or let nat64d answer, with all its settings, instead of the plugin dns64 and of the resolvers behind forward:
#	forward . {{server .Reach}}{{end}}
dns64 {
	prefix {{.First}}
	allow_ipv4
{{- if .All}}
	translate_all{{end}}
}
`,
	"radvd": `# Into radvd.conf, of radvd 2.20 or newer: hosts learn the prefix by router advertisements (RFC 8781).
# Lifetime 0: hosts route only the prefix to this gateway, not everything. If it is a default router as well, leave out
# AdvDefaultLifetime; if radvd advertises on this interface already, put the rest into the section that is there.
{{- if not .Interface}}
# INTERFACE stands for the one that they are behind: interfaces.v6.name, which would say it, is not set.{{end}}
interface {{or .Interface "INTERFACE"}} {
	AdvSendAdvert on;
	AdvDefaultLifetime 0;
{{- range .Prefixes}}
	nat64prefix {{.Prefix}} {
		AdvValidLifetime 1800;
	};
	route {{.Prefix}} {
		AdvRouteLifetime 1800;
	};{{end}}
{{- if .Resolver.IsValid}}
	RDNSS {{.Resolver}} {
	};{{end}}
};
`,
	"networkd": `# Into the .network file of {{or .Interface "the interface that hosts are behind"}}, of systemd 255 or newer: hosts learn the prefix by router advertisements (RFC 8781).
# Lifetime 0: hosts route only the prefix to this gateway, not everything. If it is a default router as well, leave out
# RouterLifetimeSec.
[Network]
IPv6SendRA=yes

[IPv6SendRA]
RouterLifetimeSec=0
{{- if .Resolver.IsValid}}
DNS={{.Resolver}}{{end}}
{{- range .Prefixes}}

[IPv6PREF64Prefix]
Prefix={{.Prefix}}
LifetimeSec=1800

[IPv6RoutePrefix]
Route={{.Prefix}}
LifetimeSec=1800{{end}}
`,
	"resolved": `# Into /etc/systemd/resolved.conf.d/nat64d.conf of this machine; then: systemctl restart systemd-resolved
{{- template "placeholder" .}}
[Resolve]
DNS={{.Here}}
Domains=~.
# Synthesized addresses have no signatures.
DNSSEC=no
{{- if .Wildcard}}
# dns64.listen is all addresses, with 127.0.0.53, so nat64d answers there itself. To keep the stub, name addresses in dns64.listen.
DNSStubListener=no{{end}}
`,
	"resolvconf": `# Into /etc/resolv.conf of this machine; or, with resolvconf: nat64ctl dns64 snippet resolvconf | resolvconf -a lo.nat64d
{{- template "placeholder" .}}
{{- if .OtherPort}}
# This file cannot name port {{.Local.Port}}: let DNS64 listen on port 53, too (dns64.listen).{{end}}
nameserver {{if .Local.IsValid}}{{.Local.Addr}}{{else}}ADDRESS{{end}}
options edns0
`,
	"nodelocaldns": `# Into the Corefile of ConfigMap node-local-dns, in place of the block .:53; the block of the cluster's domain stays. NodeLocal
# DNSCache has the network of its node, and asks nat64d there.
{{- template "placeholder" .}}
{{- if .Wildcard}}
# dns64.listen is all addresses of the node, with that of NodeLocal DNSCache: give it another, such as ["[::1]:53"].{{end}}
.:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . {{.Here}}
    prometheus :9253
}
`,
}

// placeholder is the part of a template that explains a missing address.
const placeholder = `{{define "placeholder"}}{{if not .Local.IsValid}}
# ADDRESS stands for a resolver with DNS64: that of nat64d is off, and dns64.enabled switches it on.{{end}}{{end}}`

// Servers returns the names of the servers that Snippet supports.
func Servers() []string {
	return []string{"bind", "unbound", "coredns", "radvd", "networkd", "resolved", "resolvconf", "nodelocaldns"}
}

// Snippet returns a part of the server's configuration that is equivalent to p.
func (p *Policy) Snippet(server string, s Surroundings) (string, error) {
	text, ok := snippets[server]
	if !ok {
		return "", fmt.Errorf("dns64: there is no snippet for %q: use %s", server, strings.Join(Servers(), ", "))
	}
	var b strings.Builder
	t := template.New(server).Funcs(template.FuncMap{"server": server53})
	err := template.Must(template.Must(t.Parse(text)).Parse(placeholder)).Execute(&b, snippet{p, s})
	return b.String(), err
}

// snippet is the data of the templates.
type snippet struct {
	*Policy
	Surroundings
}

// server53 returns an address as servers note it: without port 53.
func server53(a netip.AddrPort) string {
	if a.Port() == 53 {
		return a.Addr().String()
	}
	return a.String()
}

// Here returns the address where DNS64 answers the host itself, or a placeholder.
func (s snippet) Here() string {
	if !s.Local.IsValid() {
		return "ADDRESS"
	}
	return server53(s.Local)
}

// OtherPort reports whether DNS64 answers the host on another port than 53.
func (s snippet) OtherPort() bool { return s.Local.IsValid() && s.Local.Port() != 53 }

// block is the configuration of one prefix in BIND.
type block struct {
	Prefix
	Mapped []string // embedded addresses, as an address match list in which the first match decides
}

// Blocks returns the prefixes in use: all, or the first and those with ranges.
func (s snippet) Blocks() (list []block) {
	for i, p := range s.Prefixes {
		rest := i == 0 || s.Choice == All
		if rest || slices.ContainsFunc(s.Ranges, func(r Range) bool { return r.Prefix == i }) {
			list = append(list, block{p, s.mappedBehind(i, rest)})
		}
	}
	return list
}

// mappedBehind returns the addresses that may be embedded in prefix i: its ranges and, with rest, those outside of all ranges.
func (s snippet) mappedBehind(i int, rest bool) []string {
	list := []string{"!0.0.0.0/8", "!127.0.0.0/8", "!169.254.0.0/16", "!224.0.0.0/3"}
	if !s.Prefixes[i].Private {
		for _, n := range pool6.NonGlobal4() {
			if text := "!" + n.String(); !slices.Contains(list, text) {
				list = append(list, text)
			}
		}
	}
	if len(s.Mapped) > 0 { // a nested list that excludes all other addresses
		not := ""
		for _, m := range s.Mapped {
			not += "!" + m.String() + "; "
		}
		list = append(list, "!{ "+not+"any; }")
	}
	ranges := slices.SortedStableFunc(slices.Values(s.Ranges), func(a, b Range) int { return b.V4.Bits() - a.V4.Bits() })
	for _, r := range ranges {
		if text := r.V4.String(); r.Prefix == i {
			list = append(list, text)
		} else {
			list = append(list, "!"+text)
		}
	}
	if rest {
		list = append(list, "any")
	}
	return list
}

// unknown has the settings that some servers do not support, defaults included, with the names of these servers.
var unknown = []struct {
	key     string
	set     func(s snippet) bool
	servers []string
}{
	{"prefix_policy", func(s snippet) bool { return len(s.Prefixes) > 1 && s.Choice != First && s.Choice != All }, []string{"bind", "unbound", "coredns"}},
	{"prefix_policy", func(s snippet) bool { return len(s.Prefixes) > 1 && s.Choice == All }, []string{"unbound", "coredns"}},
	{"ranges", func(s snippet) bool { return len(s.Ranges) > 0 }, []string{"unbound", "coredns"}},
	{"mapped", func(s snippet) bool { return len(s.Mapped) > 0 }, []string{"unbound", "coredns"}},
	{"private_v4", func(s snippet) bool { return !s.Prefixes[0].Private }, []string{"unbound", "coredns"}},
	{"exclude", func(s snippet) bool { return len(s.Exclude) > 0 && !s.excludesAll() }, []string{"unbound", "coredns"}},
	{"translate_all for domains", func(s snippet) bool { return len(s.TranslateAll) > 0 && !s.All() }, []string{"bind", "coredns"}},
	{"never_synthesize", func(s snippet) bool { return len(s.Never) > 0 }, []string{"bind", "unbound", "coredns"}},
	{"a_records", func(s snippet) bool { return s.EmptyA }, []string{"bind", "unbound", "coredns"}},
	{"suffix", func(s snippet) bool { return slices.ContainsFunc(s.Prefixes, s.Suffixed) }, []string{"unbound", "coredns"}},
	{"recursive_only", func(s snippet) bool { return s.RecursiveOnly }, []string{"unbound", "coredns"}},
	{"on_aaaa_error", func(s snippet) bool { return s.ServfailOnError }, []string{"unbound", "coredns"}},
	{"on_aaaa_error", func(s snippet) bool { return !s.ServfailOnError }, []string{"bind"}}, // BIND answers SERVFAIL itself
}

// Unknown returns the settings of the Policy that the server does not support.
func (s snippet) Unknown(server string) string {
	var keys []string
	for _, u := range unknown {
		if slices.Contains(u.servers, server) && u.set(s) {
			keys = append(keys, u.key)
		}
	}
	return strings.Join(keys, ", ")
}

// First returns the prefix for servers that support only one.
func (s snippet) First() netip.Prefix { return s.Prefixes[0].Prefix.Prefix() }

// Suffixed reports whether the Policy has a suffix.
func (s snippet) Suffixed(p Prefix) bool {
	return s.Suffix.IsValid() && !s.Suffix.IsUnspecified() && p.Prefix.Prefix().Bits() < 96
}

// All reports whether synthesized addresses replace the real ones of every name.
func (s snippet) All() bool { return s.translatesAll(".") || s.excludesAll() }

func (s snippet) excludesAll() bool {
	return slices.ContainsFunc(s.Exclude, func(p netip.Prefix) bool { return p.Bits() == 0 })
}

// Discovery returns the addresses of ipv4only.arpa in the first prefix.
func (s snippet) Discovery() (list []netip.Addr) {
	for _, v4 := range wellKnown4 {
		list = append(list, s.address(&s.Prefixes[0].Prefix, v4))
	}
	return list
}
