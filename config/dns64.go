package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"nat64d/pool6"
)

// DNS64 configures the DNS64 forwarder (RFC 6147).
type DNS64 struct {
	Enabled   bool
	Listen    []netip.AddrPort
	TLS       DNSOverTLS
	Upstreams []Upstream
	Zones     []DNS64Zone
	Race      bool           // send each query to all upstreams at once
	Clients   []netip.Prefix // clients that are served; empty: derived from AllowV6 or the routes
	Open      bool           // Clients may be the whole Internet

	PrefixPolicy  string // first, all, round_robin, random or client_hash; see dns64.Choice
	Ranges        []DNS64Range
	Exclude       []netip.Prefix // IPv6 addresses that are ignored in answers
	Mapped        []netip.Prefix // IPv4 addresses that may be embedded; empty: all
	TranslateAll  []string       // domains with a final dot; "." is all domains
	Never         []string       // domains that are never synthesized, in the same notation
	EmptyA        bool           // answers have no IPv4 addresses
	Suffix        netip.Addr     // bits after the IPv4 address
	ServfailError bool           // answer SERVFAIL when the query for AAAA fails
	BreakDNSSEC   bool
	Validated     bool // the upstreams validate DNSSEC
	RecursiveOnly bool

	MaxInFlight   int
	UDPSize       int
	RatePerSecond int // 0: no limit
	Cache         DNSCache
}

// DNSOverTLS configures the listeners for DNS over TLS (RFC 7858).
type DNSOverTLS struct {
	Listen      []netip.AddrPort // empty: none
	Certificate string           // file with the certificate and its chain
	Key         string           // file with its private key
}

// DNSCache bounds the cached answers.
type DNSCache struct {
	Size                           int
	MinTTL, MaxTTL, MaxNegativeTTL time.Duration
	Prefetch, ServeStale           bool
}

// DNS64Range assigns a separate prefix to a range of IPv4 addresses.
type DNS64Range struct {
	V4     netip.Prefix
	Prefix pool6.Prefix
}

// DNS64Zone assigns an upstream to a domain. A domain with several upstreams has several of them.
type DNS64Zone struct {
	Domain   string // in lower case with a final dot
	Upstream Upstream
}

// String returns the zone in the notation of the file.
func (z DNS64Zone) String() string {
	return strings.TrimSuffix(z.Domain, ".") + "=" + z.Upstream.String()
}

// String returns the range in the notation of the file.
func (r DNS64Range) String() string { return r.V4.String() + "=" + r.Prefix.String() }

// Upstream is a resolver that DNS64 forwards queries to.
type Upstream struct {
	Transport string // udp, tcp or tls; see dns64.Transport
	Addr      netip.AddrPort
	Name      string // name in its certificate; empty: its address
}

// Resolvers returns the upstreams, with those of zones.
func (n *DNS64) Resolvers() []Upstream {
	list := slices.Clone(n.Upstreams)
	for _, z := range n.Zones {
		list = append(list, z.Upstream)
	}
	return list
}

// String returns the upstream in the notation of the file.
func (u Upstream) String() string {
	s := u.Addr.String()
	if u.Transport != "udp" {
		s = u.Transport + "://" + s
	}
	if u.Name != "" {
		s += "#" + u.Name
	}
	return s
}

// dns64 checks section dns64, together with the prefixes and clients of c.
func (d *document) dns64(r *rawDNS64, c *Config) DNS64 {
	n := DNS64{
		Enabled: r.Enabled, Race: r.Race, Open: r.Open,
		PrefixPolicy:  oneOf(d, "dns64.prefix_policy", r.PrefixPolicy, "first", "all", "round_robin", "random", "client_hash"),
		ServfailError: oneOf(d, "dns64.on_aaaa_error", r.OnAAAAError, synthesizeOnError, servfailOnError) == servfailOnError,
		EmptyA:        oneOf(d, "dns64.a_records", r.ARecords, passA, emptyA) == emptyA,
		BreakDNSSEC:   r.BreakDNSSEC, Validated: r.UpstreamsValidate, RecursiveOnly: r.RecursiveOnly,
		Mapped:        d.prefixes("dns64.mapped", r.Mapped, "IPv4", netip.Addr.Is4),
		MaxInFlight:   d.within("dns64.max_in_flight", r.MaxInFlight, 1, 100_000),
		UDPSize:       d.within("dns64.udp_size", r.UDPSize, 512, 4096),
		RatePerSecond: d.within("dns64.rate_per_second", r.RatePerSecond, 0, 1_000_000),
		Cache: DNSCache{
			Size:   d.within("dns64.cache.size", r.Cache.Size, 0, 1_000_000),
			MinTTL: d.duration("dns64.cache.min_ttl", r.Cache.MinTTL, 0), MaxTTL: d.duration("dns64.cache.max_ttl", r.Cache.MaxTTL, 0),
			MaxNegativeTTL: d.duration("dns64.cache.max_negative_ttl", r.Cache.MaxNegativeTTL, 0),
			Prefetch:       r.Cache.Prefetch, ServeStale: r.Cache.ServeStale,
		},
	}
	if n.Cache.MinTTL > n.Cache.MaxTTL {
		d.problem("dns64.cache.min_ttl", "is %v, but must not be more than max_ttl, %v", n.Cache.MinTTL, n.Cache.MaxTTL)
	}
	n.Listen = d.listeners("dns64.listen", r.Listen, 53)
	n.TLS = d.overTLS(r, n.Listen)
	for i, text := range r.Upstreams {
		n.Upstreams = append(n.Upstreams, d.upstream(rowKey("dns64.upstreams", i), text))
	}
	for i, text := range r.Zones {
		z := d.zone(rowKey("dns64.zones", i), text)
		if slices.Contains(n.Zones, z) && z.Domain != "" {
			d.problem(rowKey("dns64.zones", i), "is %q, which is there already; remove one of them", text)
		}
		n.Zones = append(n.Zones, z)
	}
	for i, text := range r.Clients {
		n.Clients = append(n.Clients, d.prefix(rowKey("dns64.clients", i), text, "IPv6 or IPv4", netip.Addr.IsValid))
	}
	for i, text := range r.Ranges {
		n.Ranges = append(n.Ranges, d.range64(rowKey("dns64.ranges", i), text, c.Pool6))
	}
	n.Exclude = d.excluded(r.Exclude)
	n.TranslateAll = d.domains("dns64.translate_all", r.TranslateAll)
	n.Never = d.domains("dns64.never_synthesize", r.NeverSynthesize)
	for i, name := range n.TranslateAll {
		if j := slices.IndexFunc(n.Never, func(never string) bool { return below(name, never) }); j >= 0 {
			d.problem(rowKey("dns64.translate_all", i), "%s is never synthesized because dns64.never_synthesize has %s; remove one of them", name, n.Never[j])
		}
	}
	n.Suffix = d.suffix(r.Suffix, c.Pool6)
	if n.Enabled {
		d.usable(&n, c)
	}
	return n
}

// listeners reads addresses and ports to listen on; port is that of an example.
func (d *document) listeners(key string, texts []string, port int) (list []netip.AddrPort) {
	for i, text := range texts {
		a, err := netip.ParseAddrPort(text)
		if err != nil || a.Port() == 0 {
			d.problem(rowKey(key, i), "is %q, but must be an address and a port, such as [2001:db8::53]:%d", text, port)
		} else if err := scoped(a.Addr()); err != nil {
			d.problem(rowKey(key, i), "is %q, but %s", text, err)
		}
		list = append(list, a)
	}
	return list
}

// overTLS reads the listeners for DNS over TLS. The files may be missing until nat64d listens.
func (d *document) overTLS(r *rawDNS64, plain []netip.AddrPort) DNSOverTLS {
	o := DNSOverTLS{Listen: d.listeners("dns64.listen_tls", r.ListenTLS, 853), Certificate: r.TLSCertificate, Key: r.TLSKey}
	for i, a := range o.Listen {
		if a.Port() != 0 && slices.Contains(plain, a) {
			d.problem(rowKey("dns64.listen_tls", i), "is %v, which dns64.listen has already; TLS needs its own port, usually 853", a)
		}
	}
	for _, file := range []struct{ key, path, what string }{
		{"dns64.tls_certificate", o.Certificate, "the file with the certificate and its chain in PEM, such as /etc/nat64d/dns.crt"},
		{"dns64.tls_key", o.Key, "the file with the private key in PEM, such as /etc/nat64d/dns.key"},
	} {
		switch {
		case file.path == "" && len(o.Listen) > 0:
			d.problem(file.key, "is empty, but dns64.listen_tls needs %s", file.what)
		case file.path != "" && !filepath.IsAbs(file.path):
			d.problem(file.key, "is %q, but must be the absolute path of %s", file.path, file.what)
		}
	}
	return o
}

// usable checks that an enabled forwarder has upstreams and listeners and is not an open resolver by mistake.
func (d *document) usable(n *DNS64, c *Config) {
	if len(n.Upstreams) == 0 {
		d.problem("dns64.upstreams", "is empty; name the resolvers to ask, such as 192.0.2.53")
	}
	listen := slices.Concat(n.Listen, n.TLS.Listen)
	if len(listen) == 0 {
		d.problem("dns64.listen", "is empty; write an address and a port, such as [::]:53")
	}
	clients, list := n.Clients, "dns64.clients"
	if len(clients) == 0 {
		clients, list = c.AllowV6, "allow_v6"
	}
	all := slices.IndexFunc(clients, WholeInternet)
	public := slices.IndexFunc(listen, func(a netip.AddrPort) bool {
		ip := a.Addr().Unmap()
		return ip.IsUnspecified() || ip.IsGlobalUnicast() && !ip.IsPrivate()
	})
	if !n.Open && all >= 0 && public >= 0 {
		d.problem(rowKey(list, all), "%v makes DNS64 on %v an open resolver, which is misused to attack others; name your own networks, or write dns64.open: true",
			clients[all], listen[public])
	}
}

// WholeInternet reports whether a prefix is too short to be the network of one operator.
func WholeInternet(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 16 && (p.Contains(netip.MustParseAddr("2000::")) || p.Addr().As16()[0]>>5 == 1)
}

// upstream reads 192.0.2.53, [2001:db8::53]:5353, [fe80::1%eth0]:53, tcp://192.0.2.53 or tls://192.0.2.53#dns.example.
func (d *document) upstream(key, text string) Upstream {
	u := Upstream{Transport: "udp"}
	rest := text
	if scheme, after, ok := strings.Cut(text, "://"); ok {
		u.Transport, rest = scheme, after
	}
	var named bool
	rest, u.Name, named = strings.Cut(rest, "#")
	port, known := map[string]uint16{"udp": 53, "tcp": 53, "tls": 853}[u.Transport]
	_, valid := domain(u.Name)
	switch {
	case !known:
		d.problem(key, "is %q, but must begin with udp://, tcp://, tls:// or the address", text)
	case named && u.Transport != "tls":
		d.problem(key, "is %q, but a name behind # is that of a certificate, which tls:// alone has", text)
	case named && (!valid || u.Name == ""):
		d.problem(key, "is %q, but behind # must be a name such as dns.example", text)
	}
	a, err := hostPort(rest, port)
	if err == nil {
		err = reachable(a.Addr())
	}
	if err != nil {
		d.problem(key, "is %q, but %s; use one such as 192.0.2.53, [2001:db8::53]:5353, fe80::1%%eth0, tcp://192.0.2.53:53 or tls://192.0.2.53#dns.example", text, err)
	}
	u.Addr = a
	return u
}

// zone reads cluster.local=10.96.0.10; the resolver has the notation of upstreams.
func (d *document) zone(key, text string) (z DNS64Zone) {
	name, resolver, ok := strings.Cut(text, "=")
	name, valid := domain(name)
	switch {
	case !ok || !valid:
		d.problem(key, "is %q, but must be a domain and its resolver, such as cluster.local=10.96.0.10", text)
		return z
	case name == ".":
		d.problem(key, "is %q, but the resolvers of all other names belong into dns64.upstreams", text)
	case below(name, "ipv4only.arpa.") || below(name, "resolver.arpa."):
		d.problem(key, "is %q, but DNS64 itself answers for %s (RFC 8880, RFC 9462); leave it out", text, strings.TrimSuffix(name, "."))
	}
	z.Domain, z.Upstream = name, d.upstream(key, resolver)
	return z
}

// hostPort reads an address, with or without brackets, and an optional port.
func hostPort(text string, port uint16) (netip.AddrPort, error) {
	host := text
	if strings.HasPrefix(text, "[") || strings.Count(text, ":") == 1 { // otherwise the colons belong to an IPv6 address
		i := strings.LastIndex(text, ":")
		if end := strings.LastIndex(text, "]"); end > i { // [2001:db8::53]
			i = -1
		}
		if i >= 0 {
			n, err := strconv.ParseUint(text[i+1:], 10, 16)
			if err != nil || n == 0 {
				return netip.AddrPort{}, fmt.Errorf("%q is not a port, of which there are 1 to 65535", text[i+1:])
			}
			host, port = text[:i], uint16(n)
		}
		if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
			inner, closed := strings.CutSuffix(inner, "]")
			if host = inner; !closed || !strings.Contains(inner, ":") {
				return netip.AddrPort{}, fmt.Errorf("brackets must be around an IPv6 address")
			}
		}
	}
	a, err := netip.ParseAddr(host)
	if err != nil || strings.ContainsAny(a.Zone(), "[]:/ ") {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IP address", host)
	}
	return netip.AddrPortFrom(a, port), nil
}

// reachable refuses addresses that no resolver can have.
func reachable(a netip.Addr) error {
	switch {
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%v is no address of a host", a)
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return fmt.Errorf("%v is link-local and needs the interface that it is behind, as in %v%%eth0", a, a)
	}
	return scoped(a)
}

// scoped refuses an interface for an address that is not link-local.
func scoped(a netip.Addr) error {
	if a.Zone() != "" && !a.IsLinkLocalUnicast() {
		return fmt.Errorf("%v is not link-local and must not name an interface (%%%s)", a.WithZone(""), a.Zone())
	}
	return nil
}

// range64 reads 198.51.100.0/24=2001:db8:65::/96.
func (d *document) range64(key, text string, prefixes []pool6.Prefix) (r DNS64Range) {
	v4, v6, ok := strings.Cut(text, "=")
	if !ok {
		d.problem(key, "is %q, but must be an IPv4 prefix and one of pool6, such as 198.51.100.0/24=64:ff9b::/96", text)
		return r
	}
	r.V4 = d.prefix(key, v4, "IPv4", netip.Addr.Is4)
	p, err := pool6.ParsePrefix(v6)
	if r.Prefix = p; err != nil {
		d.problem(key, "%s", strings.TrimPrefix(err.Error(), "pool6: "))
	} else if !slices.Contains(prefixes, p) {
		d.problem(key, "%v is not a prefix of pool6, which has %s", p, strings.Trim(fmt.Sprint(prefixes), "[]"))
	}
	return r
}

// mapped4 is the range of IPv4-mapped addresses, which netip treats as a separate family.
var mapped4 = netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)

// excluded reads IPv6 prefixes; the word any stands for all addresses.
func (d *document) excluded(texts []string) (ps []netip.Prefix) {
	for i, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil && p == mapped4 {
			ps = append(ps, p)
			continue
		}
		if text == "any" {
			text = "::/0"
		}
		ps = append(ps, d.prefix(rowKey("dns64.exclude", i), text, "IPv6", netip.Addr.Is6))
	}
	return ps
}

// domains reads domains; a boolean stands for all domains or none.
func (d *document) domains(key string, texts []string) (list []string) {
	if len(texts) == 1 {
		if all, err := parseBool(texts[0]); err == nil && all {
			return []string{"."}
		} else if err == nil {
			return nil
		}
	}
	for i, text := range texts {
		name, ok := domain(text)
		if !ok || text == "" {
			d.problem(rowKey(key, i), "is %q, but must be a domain such as example.net, or true", text)
		}
		list = append(list, name)
	}
	return list
}

// below reports whether a name is the domain or below it; both are in lower case with a final dot.
func below(name, domain string) bool {
	return domain == "." || name == domain || strings.HasSuffix(name, "."+domain)
}

// domain returns a domain in lower case with a final dot.
func domain(text string) (string, bool) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if name != "" && (label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
			return "", false
		}
	}
	return name + ".", true
}

// suffix reads the bits after the IPv4 address. They must not overlap a prefix or the address.
func (d *document) suffix(text string, prefixes []pool6.Prefix) netip.Addr {
	const key = "dns64.suffix"
	a, err := netip.ParseAddr(cmp.Or(text, "::"))
	if err != nil || !a.Is6() || a.Zone() != "" {
		d.problem(key, "is %q, but must be an IPv6 address such as ::1234", text)
		return netip.IPv6Unspecified()
	}
	shorter := func(p pool6.Prefix) bool { return p.Prefix().Bits() < 96 }
	if !a.IsUnspecified() && len(prefixes) > 0 && !slices.ContainsFunc(prefixes, shorter) {
		d.problem(key, "is %v, but behind a /96, as all prefixes of pool6 are, there are no bits left; leave it out, or use a shorter prefix", a)
		return a
	}
	b := a.As16()
	for _, p := range prefixes {
		if bits := p.Prefix().Bits(); bits < 96 && slices.ContainsFunc(b[:bits/8+5], func(b byte) bool { return b != 0 }) {
			d.problem(key, "%v has bits where %v and the IPv4 address stand", a, p)
			break
		}
	}
	return a
}

// settle writes values that have several notations back in one of them.
func (r *rawDNS64) settle(n *DNS64) {
	r.Listen, r.Upstreams, r.Clients, r.Ranges = texts(n.Listen), texts(n.Upstreams), texts(n.Clients), texts(n.Ranges)
	r.Exclude, r.Mapped, r.TranslateAll, r.Suffix = texts(n.Exclude), texts(n.Mapped), n.TranslateAll, n.Suffix.String()
	r.ListenTLS = texts(n.TLS.Listen)
	r.NeverSynthesize, r.Zones = n.Never, texts(n.Zones)
}
