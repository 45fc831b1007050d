package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nat64d/pool4"
	"nat64d/pool6"
)

// Binding is a range of static bindings of one protocol (RFC 6146 section 3.1): the first port of Mapped belongs to
// Client, the next one to the next port of the client, and so on. Ports of ICMP are Identifiers.
type Binding struct {
	Client netip.AddrPort
	Mapped pool4.Entry
}

// String returns the binding as an operator would type it, for instance "tcp 192.0.2.1 80 [2001:db8::5]:8080".
func (b Binding) String() string {
	if n := b.Mapped.Hi - b.Mapped.Lo; n > 0 {
		return fmt.Sprintf("%v %v-%d", b.Mapped, b.Client, b.Client.Port()+n)
	}
	return fmt.Sprintf("%v %v", b.Mapped, b.Client)
}

// Endpoint is an address with a range of ports, both ends included.
type Endpoint struct {
	Addr   netip.Addr
	Lo, Hi uint16
}

// String returns the endpoint in the notation that ParseEndpoint reads.
func (e Endpoint) String() string {
	s := netip.AddrPortFrom(e.Addr, e.Lo).String()
	if e.Lo != e.Hi {
		s += fmt.Sprintf("-%d", e.Hi)
	}
	return s
}

// ParseEndpoint reads an address with a port or a range of them, as in 192.0.2.1:80, 192.0.2.1:8000-8100,
// [2001:db8::5]:80, or with # before the port as Jool writes it: 2001:db8::5#80.
func ParseEndpoint(s string) (Endpoint, error) {
	addr, ports, ok := strings.Cut(s, "#")
	if !ok {
		at := strings.LastIndexByte(s, ':')
		if at < 0 {
			return Endpoint{}, wrongEndpoint(s)
		}
		addr, ports = s[:at], s[at+1:]
		if strings.Contains(addr, ":") && !bracketed(addr) {
			return Endpoint{}, wrongEndpoint(s) // 2001:db8::5:80 is an address
		}
	}
	if bracketed(addr) {
		addr = addr[1 : len(addr)-1]
	}
	a, err := netip.ParseAddr(addr)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.Is4() && strings.HasPrefix(s, "[") {
		return Endpoint{}, wrongEndpoint(s)
	}
	lo, hi, ranged := strings.Cut(ports, "-")
	if !ranged {
		hi = lo
	}
	e := Endpoint{Addr: a}
	if e.Lo, ok = parsePort(lo); !ok {
		return Endpoint{}, wrongEndpoint(s)
	}
	if e.Hi, ok = parsePort(hi); !ok {
		return Endpoint{}, wrongEndpoint(s)
	}
	if e.Lo > e.Hi {
		return Endpoint{}, fmt.Errorf("%s: the range is reversed: write %d-%d", s, e.Hi, e.Lo)
	}
	return e, nil
}

func bracketed(s string) bool { return strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") }

func wrongEndpoint(s string) error {
	return fmt.Errorf("%q is not an address with a port: write 192.0.2.1:80 or [2001:db8::5]:80, or 8000-8100 for a range of ports", s)
}

// parsePort reads a decimal number of 0 to 65535 without leading zeros.
func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && strconv.FormatUint(n, 10) == s
}

// ParseBinding reads static bindings from the client's ports to the mapped ports and returns one Binding for each protocol.
// Both ranges must have the same number of ports. Protocols are tcp, udp and icmp; an empty list or the word all selects all
// three. ParseBinding does not compare the addresses with pool4 and pool6.
func ParseBinding(protocols []string, client, mapped string) ([]Binding, error) {
	c, err := ParseEndpoint(client)
	if err != nil {
		return nil, err
	}
	m, err := ParseEndpoint(mapped)
	if err != nil {
		return nil, err
	}
	sample, err := samples(protocols)
	if err != nil {
		return nil, err
	}
	a := c.Addr.As16()
	switch {
	case !c.Addr.Is6() || !pool6.Unicast6(&a):
		return nil, fmt.Errorf("%s: the client must be a unicast IPv6 address, such as [2001:db8::5]:80", client)
	case !m.Addr.Is4():
		return nil, fmt.Errorf("%s: the client is mapped to an IPv4 address, such as 192.0.2.1:80", mapped)
	case c.Hi-c.Lo != m.Hi-m.Lo:
		return nil, fmt.Errorf("%s has %d ports, but %s has %d; they must be equally many", client, int(c.Hi-c.Lo)+1, mapped, int(m.Hi-m.Lo)+1)
	}
	var bs []Binding
	for _, e := range sample {
		if c.Lo == 0 && e.Lo != 0 { // the sample of ICMP begins at 0
			return nil, fmt.Errorf("%s: %v has no port 0: the lowest is 1 (only ICMP Identifiers begin at 0)", client, e.Proto)
		}
		es, err := pool4.ParseRange(m.Addr.String(), fmt.Sprintf("%d-%d", m.Lo, m.Hi), e.Proto)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", mapped, strings.TrimPrefix(err.Error(), "pool4: "))
		}
		bs = append(bs, Binding{Client: netip.AddrPortFrom(c.Addr, c.Lo), Mapped: es[0]})
	}
	return bs, nil
}

// samples returns one entry for each of the named protocols.
func samples(names []string) ([]pool4.Entry, error) {
	known := protocols()
	if len(names) == 0 || len(names) == 1 && names[0] == "all" {
		names = []string{"tcp", "udp", "icmp"}
	}
	var es []pool4.Entry
	for i, name := range names {
		e, ok := known[name]
		if !ok || slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("protocol %q: must be tcp, udp or icmp, each once, or all", name)
		}
		es = append(es, e)
	}
	return es, nil
}

// placed is a binding and the number of its row.
type placed struct {
	Binding
	row int
}

// bindings returns the static bindings. Each mapped address must be in pool4 and each client outside of pool6, and no two
// bindings may share a port of either side.
func (d *document) bindings(rows []rawBIB, c *Config) []Binding {
	addresses := map[netip.Addr]bool{}
	for _, e := range c.Pool4 {
		addresses[e.Addr] = true
	}
	var all []placed
	for i, r := range rows {
		for _, b := range d.bindingRow(rowKey("bib", i), r) {
			client := b.Client.Addr().As16()
			switch _, translated := pool6.Match(c.Pool6, &client); {
			case !addresses[b.Mapped.Addr]:
				d.problem(rowKey("bib", i)+".v4", "%v is no address of pool4; add it to pool4, with any ports", b.Mapped.Addr)
			case translated:
				d.problem(rowKey("bib", i)+".v6", "%v lies in pool6, where no client can be", b.Client.Addr())
			default:
				all = append(all, placed{b, i})
				continue
			}
			break // the other protocols of the row have the same problem
		}
	}
	d.distinct(all, "v4", func(b Binding) Endpoint { return Endpoint{b.Mapped.Addr, b.Mapped.Lo, b.Mapped.Hi} })
	d.distinct(all, "v6", func(b Binding) Endpoint {
		return Endpoint{b.Client.Addr(), b.Client.Port(), b.Client.Port() + b.Mapped.Hi - b.Mapped.Lo}
	})
	bs := make([]Binding, len(all))
	for i := range all {
		bs[i] = all[i].Binding
	}
	return bs
}

// bindingRow reads one row. Several protocols are separated by commas.
func (d *document) bindingRow(key string, r rawBIB) []Binding {
	complete := true
	for _, k := range []struct{ name, text, example string }{{"proto", r.Proto, "tcp"}, {"v6", r.V6, "\"[2001:db8::5]:80\""}, {"v4", r.V4, "192.0.2.1:80"}} {
		if k.text == "" {
			d.problem(key+"."+k.name, "missing; write it like %s", k.example)
			complete = false
		}
	}
	if !complete {
		return nil
	}
	bs, err := ParseBinding(split(r.Proto), r.V6, r.V4)
	if err != nil {
		d.problem(key, "%v", err)
	}
	return bs
}

// split cuts a list of words at commas and blanks.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// distinct reports bindings that share a port of one side. It sorts the ranges, so that a range that overlaps an earlier one
// also overlaps the earlier one with the highest end.
func (d *document) distinct(all []placed, name string, side func(Binding) Endpoint) {
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, func(a, b placed) int {
		x, y := side(a.Binding), side(b.Binding)
		return cmp.Or(cmp.Compare(a.Mapped.Proto, b.Mapped.Proto), x.Addr.Compare(y.Addr), cmp.Compare(x.Lo, y.Lo))
	})
	far := 0
	for i := 1; i < len(sorted); i++ {
		a, b := sorted[far], sorted[i]
		x, y := side(a.Binding), side(b.Binding)
		same := a.Mapped.Proto == b.Mapped.Proto && x.Addr == y.Addr
		if same && y.Lo <= x.Hi {
			taken := Endpoint{y.Addr, y.Lo, min(x.Hi, y.Hi)}
			d.problem(rowKey("bib", max(a.row, b.row))+"."+name, "%v %v is bound by %s already", b.Mapped.Proto, taken, rowKey("bib", min(a.row, b.row)))
		}
		if !same || y.Hi > x.Hi {
			far = i
		}
	}
}
