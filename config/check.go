package config

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"nat64d/pool4"
	"nat64d/pool6"
)

// check turns the values of a file into a Config and notes those that are out of bounds.
func (d *document) check(f *file) *Config {
	d.within("version", f.Version, 1, 1)
	return &Config{
		Interfaces: Interfaces{
			V6:      Interface{Name: f.Interfaces.V6.Name, MTU: d.mtu("interfaces.v6.mtu", f.Interfaces.V6.MTU, minMTU6)},
			V4:      Interface{Name: f.Interfaces.V4.Name, MTU: d.mtu("interfaces.v4.mtu", f.Interfaces.V4.MTU, minMTU4)},
			Engine:  oneOf(d, "interfaces.engine", f.Interfaces.Engine, EngineAuto, EngineRing, EngineMmsg, EngineSimple),
			Workers: d.within("interfaces.workers", int(f.Interfaces.Workers), 0, 256),
		},
		Pool6:     d.pool6(f.Pool6),
		PrivateV4: d.privateV4(f.Pool6),
		Pool4:     d.pool4(f.Pool4),
		Host: Host{
			Guard:        f.Host.Guard,
			ReservePorts: f.Host.ReservePorts,
			Force:        f.Host.Force,
			AnswerARP:    oneOf(d, "host.answer_arp", onOff(f.Host.AnswerARP), AnswerARPAuto, AnswerARPOn, AnswerARPOff),
		},
		Sessions: Sessions{
			Max:          d.within("sessions.max", f.Sessions.Max, 1, 100_000_000),
			Timeouts:     d.timeouts(f.Sessions.Timeouts, f.Sessions.AllowUnsafeTimeouts || f.AllowUnsafeTimeouts),
			PortHoldDown: d.duration("sessions.port_hold_down", f.Sessions.PortHoldDown, 0),
		},
		AllowInboundTCP: f.Filtering.AllowInboundTCP,
		Translation:     d.translation(f.Translation),
		ICMP: ICMP{
			SourceV6: d.source("icmp.source_v6", f.ICMP.SourceV6, "IPv6", netip.Addr.Is6),
			SourceV4: d.source("icmp.source_v4", f.ICMP.SourceV4, "IPv4", netip.Addr.Is4),
			Rate:     d.within("icmp.rate_per_second", f.ICMP.RatePerSecond, 0, 1_000_000),
		},
		Log: Log{
			Level:  oneOf(d, "logging.level", f.Logging.Level, "debug", "info", "warn", "error"),
			Format: oneOf(d, "logging.format", f.Logging.Format, "auto", "text", "json"),
		},
		Socket: d.socket(f.API.Socket),
		Group:  f.API.Group,
	}
}

// The smallest MTUs: RFC 8200 section 5, RFC 791 section 3.2.
const (
	minMTU6 = 1280
	minMTU4 = 68
	maxMTU  = 65535
)

// within returns n, and notes a problem when it is out of bounds.
func (d *document) within(key string, n, lo, hi int) int {
	switch {
	case lo == hi && n != lo:
		d.problem(key, "is %d, but must be %d", n, lo)
	case n < lo || n > hi:
		d.problem(key, "is %d, but must be %d to %d", n, lo, hi)
	}
	return n
}

func (d *document) mtu(key string, n number, lo int) int {
	if n == 0 {
		return 0
	}
	return d.within(key, int(n), lo, maxMTU)
}

// oneOf returns the word as one of the allowed ones, and notes a problem when it is none of them.
func oneOf[T ~string](d *document, key, word string, allowed ...T) T {
	if !slices.Contains(allowed, T(word)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		d.problem(key, "is %q, but must be one of %s", word, strings.Join(names, ", "))
	}
	return T(word)
}

// onOff lets a word that is read as on or off be written like any other boolean.
func onOff(s string) string {
	switch b, err := parseBool(s); {
	case err != nil:
		return s
	case b:
		return "on"
	default:
		return "off"
	}
}

// longest bounds every duration, so that none comes near the range of the gateway's clock.
const longest = 30 * 24 * time.Hour

func (d *document) duration(key string, v interval, lo time.Duration) time.Duration {
	if t := time.Duration(v); t < lo || t > longest {
		d.problem(key, "is %v, but must be %v to %v", t, lo, longest)
	}
	return time.Duration(v)
}

// timeouts checks the lifetimes against the lower bounds of RFC 6146 section 4, RFC 4787 REQ-5, RFC 5382 REQ-5 and
// RFC 5508 REQ-2. A shorter one cuts connections that their ends believe to be alive.
func (d *document) timeouts(t rawTimeouts, unsafe bool) Timeouts {
	lifetime := func(name string, v interval, lo time.Duration) time.Duration {
		key := "sessions.timeouts." + name
		switch t := time.Duration(v); {
		case t <= 0:
			d.problem(key, "is %v, but must be more than 0", t)
		case t < lo && !unsafe:
			d.problem(key, "is %v, which is below the %v that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions", t, lo)
		default:
			d.duration(key, v, 0)
		}
		return time.Duration(v)
	}
	return Timeouts{
		UDP:            lifetime("udp", t.UDP, 2*time.Minute),
		ICMP:           lifetime("icmp", t.ICMP, time.Minute),
		TCPEstablished: lifetime("tcp_established", t.TCPEstablished, 2*time.Hour),
		TCPTransitory:  lifetime("tcp_transitory", t.TCPTransitory, 4*time.Minute),
		TCPSyn:         lifetime("tcp_syn", t.TCPSyn, 6*time.Second),
		Fragment:       lifetime("fragment", t.Fragment, 2*time.Second),
	}
}

func (d *document) translation(t rawXlat) Translation {
	x := Translation{
		LowestIPv6MTU:   d.within("translation.lowest_ipv6_mtu", t.LowestIPv6MTU, minMTU6, maxMTU),
		ZeroUDPChecksum: oneOf(d, "translation.zero_udp_checksum", t.ZeroUDPChecksum, ZeroUDPChecksumCompute, ZeroUDPChecksumDrop),
		CopyTOS:         t.TOS == "copy",
	}
	if !x.CopyTOS {
		n, err := parseInt(t.TOS)
		if err != nil || n > 255 {
			d.problem("translation.tos", "is %q, but must be copy or 0 to 255", t.TOS)
		}
		x.TOS = uint8(n)
	}
	return x
}

// source reads the source address of our own ICMP errors.
func (d *document) source(key, text, family string, is func(netip.Addr) bool) netip.Addr {
	if text == "auto" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !is(a) || a.Zone() != "" || a.Is4In6() || !a.IsGlobalUnicast() {
		d.problem(key, "is %q, but must be auto or a unicast %s address", text, family)
		return netip.Addr{}
	}
	return a
}

// pool6 returns the prefixes; without one in the file that is the Well-Known Prefix.
func (d *document) pool6(rows []rawPool6) []pool6.Prefix {
	if len(rows) == 0 {
		rows = []rawPool6{{Prefix: "64:ff9b::/96"}}
	}
	if len(rows) > 1 {
		d.problem("pool6[1]", "a second prefix is not available in this version; give one")
	}
	var ps []pool6.Prefix
	for i, r := range rows {
		key := rowKey("pool6", i) + ".prefix"
		if r.Prefix == "" {
			d.problem(key, "missing; write a prefix such as 64:ff9b::/96")
			continue
		}
		p, err := pool6.ParsePrefix(r.Prefix)
		if err != nil {
			d.problem(key, "%s", strings.TrimPrefix(err.Error(), "pool6: "))
			continue
		}
		ps = append(ps, p)
	}
	return ps
}

func (d *document) privateV4(rows []rawPool6) PrivateV4 {
	choice := PrivateV4Auto
	for i, r := range rows {
		if r.PrivateV4 != "" {
			key := rowKey("pool6", i) + ".private_v4"
			choice = oneOf(d, key, r.PrivateV4, PrivateV4Auto, PrivateV4Allow, PrivateV4Drop)
		}
	}
	return choice
}

func (d *document) pool4(rows []rawPool4) []pool4.Entry {
	var entries []pool4.Entry
	for i, r := range rows {
		key := rowKey("pool4", i)
		switch {
		case r.Address == "":
			d.problem(key+".address", "missing; write an address such as 10.0.2.15")
			continue
		case strings.HasPrefix(r.Address, "interface:"):
			d.problem(key+".address", "%s is not available in this version; write the address itself", r.Address)
			continue
		case r.Protocols != nil && len(r.Protocols) == 0:
			d.problem(key+".protocols", "is empty; leave it out for tcp, udp and icmp")
			continue
		}
		entries = append(entries, d.pool4Row(key, r)...)
	}
	return entries
}

// pool4Row returns the entries of one row: each address with each protocol.
func (d *document) pool4Row(key string, r rawPool4) []pool4.Entry {
	names := r.Protocols
	if names == nil {
		names = []string{"tcp", "udp", "icmp"}
	}
	var entries []pool4.Entry
	var refused error // the first one: the other protocols have the same problem
	for i, name := range names {
		sample, ok := protocols()[name]
		if !ok || slices.Contains(names[:i], name) {
			d.problem(rowKey(key+".protocols", i), "is %q, but must be tcp, udp or icmp, each once", name)
			continue
		}
		es, err := pool4.ParseRange(r.Address, r.Ports, sample.Proto)
		refused = cmp.Or(refused, err)
		entries = append(entries, es...)
	}
	if refused != nil {
		d.problem(key, "%s", strings.TrimPrefix(refused.Error(), "pool4: "))
	}
	return entries
}

// protocols maps the names of the protocols to an entry of each.
func protocols() map[string]pool4.Entry {
	all, _ := pool4.ParseRange("192.0.2.1", "1")
	m := map[string]pool4.Entry{}
	for _, e := range all {
		m[e.Proto.String()] = e
	}
	return m
}

func (d *document) socket(path string) string {
	// 107 bytes and a zero are what sockaddr_un holds.
	if !strings.HasPrefix(path, "/") || len(path) > 107 {
		d.problem("api.socket", "is %q, but must be an absolute path of at most 107 bytes", path)
	}
	return path
}

// checkNames notes interfaces without a name, or with one that the kernel would not take.
func (d *document) checkNames(f *file) {
	for _, i := range []struct{ side, name string }{{"v6", f.Interfaces.V6.Name}, {"v4", f.Interfaces.V4.Name}} {
		key := "interfaces." + i.side + ".name"
		switch {
		case i.name == "":
			d.problem(key, "missing; name the NIC of the IP%s side here or with --%s", i.side, i.side)
		case len(i.name) > 15 || strings.ContainsAny(i.name, "/: \t\n") || i.name == "." || i.name == "..":
			d.problem(key, "%q cannot be the name of an interface; the kernel takes up to 15 bytes without blanks, / or :", i.name)
		}
	}
}

func rowKey(list string, n int) string { return list + "[" + strconv.Itoa(n) + "]" }
