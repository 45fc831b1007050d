package control

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Filter selects bindings and sessions, and the order of a listing. The zero Filter selects all, in no particular order.
type Filter struct {
	Protocols []string      // tcp, udp and icmp; empty: all
	Client    netip.Prefix  // contains the IPv6 address; zero: any
	Peer      netip.Prefix  // contains the IPv4 address of the peer; zero: any. Sessions only
	Mapped    Mapped        // contains the transport address of pool4; zero: any
	Ports     Ports         // contain the port of the client, of pool4 or of the peer; zero: any
	States    []string      // of TCP sessions, as in States; empty: any session. Sessions only
	Older     time.Duration // no packet has prolonged the session for so long; 0: any. Sessions only
	Order     Order
	Limit     int // maximum number of entries; 0: no limit
}

// States are the states of TCP sessions (RFC 6146 section 3.5.2.1). CLOSED there means that there is no session.
var States = []string{"V4_INIT", "V6_INIT", "ESTABLISHED", "V4_FIN_RCV", "V6_FIN_RCV", "V4_FIN_V6_FIN_RCV", "TRANS"}

// MatchBinding reports whether the filter selects a binding. The fields for sessions only do not count.
func (f *Filter) MatchBinding(b *Binding) bool {
	return f.match(b.Protocol, b.Client.Addr()) && f.Mapped.contains(b.Mapped) &&
		(!f.Ports.set || f.Ports.Contains(b.Client.Port()) || f.Ports.Contains(b.Mapped.Port()))
}

// MatchSession reports whether the filter selects a session. It compares values without formatting them, because a listing calls it
// for each of up to millions of sessions. A stored SYN has no client.
func (f *Filter) MatchSession(s *Session) bool {
	return f.match(s.Protocol, s.Client.Addr()) && f.Mapped.contains(s.Mapped) &&
		(!f.Peer.IsValid() || f.Peer.Contains(s.Peer.Addr())) &&
		(len(f.States) == 0 || slices.Contains(f.States, s.State)) &&
		time.Duration(s.Idle) >= f.Older &&
		(!f.Ports.set || s.Client.IsValid() && f.Ports.Contains(s.Client.Port()) || f.Ports.Contains(s.Mapped.Port()) || f.Ports.Contains(s.Peer.Port()))
}

// ByState reports whether the filter selects sessions by nothing but protocol and state.
func (f *Filter) ByState() bool {
	return !f.Client.IsValid() && !f.Peer.IsValid() && f.Mapped == Mapped{} && !f.Ports.set && f.Older == 0
}

func (f *Filter) match(protocol string, client netip.Addr) bool {
	return (len(f.Protocols) == 0 || slices.Contains(f.Protocols, protocol)) && (!f.Client.IsValid() || f.Client.Contains(client))
}

// Ports is a range of ports or Identifiers. The zero value is no range.
type Ports struct {
	first, last uint16
	set         bool
}

// Contains reports whether a port is in the range.
func (p Ports) Contains(port uint16) bool { return p.set && p.first <= port && port <= p.last }

// String returns the range as ParsePorts reads it, and no range as "".
func (p Ports) String() string {
	switch {
	case !p.set:
		return ""
	case p.first == p.last:
		return strconv.Itoa(int(p.first))
	}
	return fmt.Sprintf("%d-%d", p.first, p.last)
}

// ParsePorts parses a port such as "443", or a range such as "7000-8000".
func ParsePorts(s string) (Ports, error) {
	lo, hi, ranged := strings.Cut(s, "-")
	if !ranged {
		hi = lo
	}
	first, err1 := strconv.ParseUint(lo, 10, 16)
	last, err2 := strconv.ParseUint(hi, 10, 16)
	switch {
	case err1 != nil || err2 != nil:
		return Ports{}, &Error{Message: fmt.Sprintf("port %q is wrong", s), Hint: "use a port such as 443, or a range such as 7000-8000"}
	case first > last:
		return Ports{}, &Error{Message: fmt.Sprintf("ports %s: the range is reversed", s), Hint: fmt.Sprintf("use %d-%d", last, first)}
	}
	return Ports{uint16(first), uint16(last), true}, nil
}

// Mapped selects transport addresses of pool4. The zero value selects all.
type Mapped struct {
	addresses netip.Prefix
	ports     Ports // zero: all
}

func (m Mapped) contains(a netip.AddrPort) bool {
	return (!m.addresses.IsValid() || m.addresses.Contains(a.Addr())) && (!m.ports.set || m.ports.Contains(a.Port()))
}

// String returns the text that ParseMapped reads.
func (m Mapped) String() string {
	switch {
	case !m.addresses.IsValid():
		return ""
	case !m.ports.set:
		return m.addresses.String()
	}
	return m.addresses.Addr().String() + ":" + m.ports.String()
}

// ParseMapped parses an IPv4 address, a prefix, or an address with a port or a range of ports.
func ParseMapped(s string) (m Mapped, err error) {
	address, ports, ported := strings.Cut(strings.ReplaceAll(s, "#", ":"), ":")
	if m.addresses, err = parsePrefix(address, netip.Addr.Is4, "mapped", "an address of pool4 such as 192.0.2.1, 192.0.2.0/28, 192.0.2.1:7042 or 192.0.2.1:7000-7099"); err != nil || !ported {
		return m, err
	}
	if !m.addresses.IsSingleIP() {
		return m, &Error{Message: fmt.Sprintf("mapped %q is wrong: a prefix has no ports", s), Hint: "use --port for the ports"}
	}
	m.ports, err = ParsePorts(ports)
	return m, err
}

// ParseState parses the state of a TCP session, in capital or small letters.
func ParseState(s string) (string, error) {
	state := strings.ToUpper(strings.ReplaceAll(s, "-", "_"))
	if !slices.Contains(States, state) {
		return "", &Error{Message: fmt.Sprintf("%q is not a state of a TCP session", s), Hint: "use " + strings.Join(States, ", ")}
	}
	return state, nil
}

// ParseOlder parses the least age of a Filter.
func ParseOlder(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, &Error{Message: fmt.Sprintf("older %q is not a duration", s), Hint: "use one such as 90s, 5m or 2h"}
	}
	return d, nil
}

// ParseClient parses the client of a Filter: an IPv6 address or prefix.
func ParseClient(s string) (netip.Prefix, error) {
	return parsePrefix(s, netip.Addr.Is6, "client", "an IPv6 address or prefix such as 2001:db8::/64")
}

// ParsePeer parses the peer of a Filter: an IPv4 address or prefix.
func ParsePeer(s string) (netip.Prefix, error) {
	return parsePrefix(s, netip.Addr.Is4, "peer", "an IPv4 address or prefix such as 192.0.2.0/24")
}

func parsePrefix(s string, family func(netip.Addr) bool, what, right string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var a netip.Addr
		a, err = netip.ParseAddr(s)
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	}
	if err != nil || !family(p.Addr()) {
		return netip.Prefix{}, &Error{Message: fmt.Sprintf("%s %q is wrong", what, s), Hint: "use " + right}
	}
	return p.Masked(), nil
}

// values encodes the filter as the query of a request.
func (f *Filter) values() url.Values {
	v := url.Values{}
	for name, texts := range map[string][]string{"protocol": f.Protocols, "state": f.States} {
		if len(texts) > 0 {
			v[name] = texts
		}
	}
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	for name, p := range map[string]netip.Prefix{"client": f.Client, "peer": f.Peer} {
		if p.IsValid() {
			v.Set(name, p.String())
		}
	}
	set("mapped", f.Mapped.String())
	set("port", f.Ports.String())
	set("sort", f.Order.String())
	if f.Older > 0 {
		v.Set("older", f.Older.String())
	}
	if f.Limit > 0 {
		v.Set("limit", strconv.Itoa(f.Limit))
	}
	return v
}

// parameters are the parsers of the parameters of a filter. Those of several values get one call for each.
var parameters = map[string]func(f *Filter, text string) error{
	"protocol": func(f *Filter, text string) error {
		f.Protocols = append(f.Protocols, text)
		return checkProtocols(f.Protocols)
	},
	"state": func(f *Filter, text string) error {
		s, err := ParseState(text)
		f.States = append(f.States, s)
		return err
	},
	"client": func(f *Filter, text string) (err error) { f.Client, err = ParseClient(text); return err },
	"peer":   func(f *Filter, text string) (err error) { f.Peer, err = ParsePeer(text); return err },
	"mapped": func(f *Filter, text string) (err error) { f.Mapped, err = ParseMapped(text); return err },
	"port":   func(f *Filter, text string) (err error) { f.Ports, err = ParsePorts(text); return err },
	"older":  func(f *Filter, text string) (err error) { f.Older, err = ParseOlder(text); return err },
	"sort":   func(f *Filter, text string) error { f.Order = ParseOrder(text); return nil },
	"limit": func(f *Filter, text string) (err error) {
		if f.Limit, err = strconv.Atoi(text); err != nil || f.Limit < 0 {
			return &Error{Message: fmt.Sprintf("limit %q is not a number", text), Hint: "use 1 or more, or 0 for no limit"}
		}
		return nil
	},
}

// parseFilter decodes the query of a request about sessions or bindings, which may have these parameters.
func parseFilter(v url.Values, permitted []string) (f Filter, err error) {
	for name, vs := range v {
		if !slices.Contains(permitted, name) {
			return Filter{}, &Error{Message: fmt.Sprintf("unknown filter %q", name), Hint: "use " + strings.Join(permitted, ", ")}
		}
		if name != "protocol" && name != "state" && len(vs) != 1 {
			return Filter{}, &Error{Message: name + " is given more than once"}
		}
		for _, text := range vs {
			if err := parameters[name](&f, text); err != nil {
				return Filter{}, err
			}
		}
	}
	return f, nil
}
