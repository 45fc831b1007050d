package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Deny is a row of deny_v4: IPv4 hosts, or some of their ports, that clients cannot reach.
type Deny struct {
	Prefix netip.Prefix
	Proto  string // tcp, udp or icmp; empty: all of the hosts, and no ports
	Lo, Hi uint16 // ports; 0 and 65535 are all
}

// String returns the row in the notation of the file: PREFIX, PREFIX:PROTO or PREFIX:PROTO:PORTS.
func (r Deny) String() string {
	s := r.Prefix.String()
	if r.Proto == "" {
		return s
	}
	s += ":" + r.Proto
	switch {
	case r.Lo == 0 && r.Hi == maxPort:
		return s
	case r.Lo == r.Hi:
		return fmt.Sprintf("%s:%d", s, r.Lo)
	}
	return fmt.Sprintf("%s:%d-%d", s, r.Lo, r.Hi)
}

const maxPort = 1<<16 - 1

// denyV4 returns the rows of the list.
func (d *document) denyV4(texts []string) []Deny {
	var rows []Deny
	for i, text := range texts {
		rows = append(rows, d.deny(rowKey("deny_v4", i), text))
	}
	if len(rows) > 1 && deniesAll(rows) {
		d.problem("deny_v4", "these rows together deny every IPv4 address; write those that may be reached into allow_v4, or use nat64ctl pause")
	}
	return rows
}

// deniesAll reports whether the rows together deny every address although no single row does.
func deniesAll(rows []Deny) bool {
	var ps []netip.Prefix
	for _, r := range rows {
		if r.Proto == "" && r.Prefix.IsValid() {
			ps = append(ps, r.Prefix)
		}
	}
	slices.SortFunc(ps, netip.Prefix.Compare) // a prefix comes before the prefixes that it contains
	denied := uint64(0)
	for i, p := range ps {
		switch {
		case p.Bits() == 0:
			return false // reported for the row itself
		case i > 0 && ps[i-1].Contains(p.Addr()):
			ps[i] = ps[i-1]
		default:
			denied += 1 << (32 - p.Bits())
		}
	}
	return denied == 1<<32
}

// deny reads one row. An IPv4 prefix has no colon, so it ends at the first one.
func (d *document) deny(key, text string) Deny {
	prefix, rest, limited := strings.Cut(text, ":")
	if strings.Count(text, ":") > 2 { // an IPv6 address
		prefix, rest, limited = text, "", false
	}
	r := Deny{Prefix: d.prefix(key, prefix, "IPv4", netip.Addr.Is4), Hi: maxPort}
	if !limited {
		if r.Prefix.IsValid() && r.Prefix.Bits() == 0 {
			d.problem(key, "%v would deny everything; write what may be reached into allow_v4, or use nat64ctl pause", r.Prefix)
		}
		return r
	}
	var ports string
	var some bool
	r.Proto, ports, some = strings.Cut(rest, ":")
	if _, known := protocols()[r.Proto]; !known {
		d.problem(key, "names the protocol %q, but it must be tcp, udp or icmp, as in 0.0.0.0/0:tcp:25", r.Proto)
		return r
	}
	if !some {
		return r
	}
	var ok bool
	if r.Lo, r.Hi, ok = portRange(ports); !ok || r.Proto == "icmp" {
		d.problem(key, "has the ports %q, but must have a port or a range such as 6660-6669, of tcp or udp", ports)
	}
	return r
}

// portRange reads a port, or two ports with a dash between them.
func portRange(s string) (lo, hi uint16, ok bool) {
	first, last, several := strings.Cut(s, "-")
	if !several {
		last = first
	}
	lo, okLo := parsePort(first)
	hi, okHi := parsePort(last)
	return lo, hi, okLo && okHi && lo <= hi
}
