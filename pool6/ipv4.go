package pool6

import "net/netip"

// Class4 is how a stateful NAT64 treats an IPv4 address on the far side of a flow.
type Class4 uint8

// The classes.
const (
	// Global addresses are translated.
	Global Class4 = iota
	// Private addresses are translated if the policy of the prefix allows it. Otherwise the gateway refuses the
	// packet and sends an ICMP error (RFC 6052 section 3.1).
	Private
	// LinkLocal addresses are never translated (RFC 3927 section 7); the gateway refuses the packet and sends an ICMP
	// error.
	LinkLocal
	// Unusable addresses do not identify a host that can send or receive; their packets are dropped.
	Unusable
)

// Special4 is a row of the IANA registry of special-purpose IPv4 addresses.
type Special4 struct {
	Prefix netip.Prefix
	Name   string
	Class  Class4
}

// Specials4 returns the special-purpose IPv4 addresses that need special treatment and the exceptions within them
// (RFC 6890 and its registry, RFC 5771, RFC 1112). Prefixes may be nested; the longest match wins. Globally reachable
// prefixes of the registry are omitted unless they are exceptions within another row.
func Specials4() []Special4 {
	row := func(prefix, name string, c Class4) Special4 { return Special4{netip.MustParsePrefix(prefix), name, c} }
	return []Special4{
		row("0.0.0.0/8", "this network (RFC 791)", Unusable),
		row("10.0.0.0/8", "private use (RFC 1918)", Private),
		row("100.64.0.0/10", "shared address space (RFC 6598)", Private),
		row("127.0.0.0/8", "loopback (RFC 1122)", Unusable),
		row("169.254.0.0/16", "link-local, the metadata services of clouds among them (RFC 3927)", LinkLocal),
		row("172.16.0.0/12", "private use (RFC 1918)", Private),
		row("192.0.0.0/24", "IETF protocol assignments (RFC 6890)", Private),
		row("192.0.0.8/32", "dummy address (RFC 7600)", Unusable),
		row("192.0.0.9/32", "PCP anycast (RFC 7723)", Global),
		row("192.0.0.10/32", "TURN anycast (RFC 8155)", Global),
		row("192.0.0.170/31", "NAT64 discovery (RFC 7050)", Unusable),
		row("192.0.2.0/24", "documentation (RFC 5737)", Private),
		row("192.88.99.2/32", "6a44 relay anycast (RFC 6751)", Private),
		row("192.168.0.0/16", "private use (RFC 1918)", Private),
		row("198.18.0.0/15", "benchmarking (RFC 2544)", Private),
		row("198.51.100.0/24", "documentation (RFC 5737)", Private),
		row("203.0.113.0/24", "documentation (RFC 5737)", Private),
		row("224.0.0.0/4", "multicast (RFC 5771)", Unusable),
		row("240.0.0.0/4", "reserved, limited broadcast (RFC 1112, RFC 919)", Unusable),
	}
}

// range4 is a row of Specials4 in the form used for look-ups.
type range4 struct {
	addr, mask uint32
	class      Class4
}

// ranges4 lists the rows by the first byte of an address, longest prefix first. For most addresses the list is empty.
var ranges4 = func() (byFirst [256][]range4) {
	for _, s := range Specials4() {
		a := s.Prefix.Addr().As4()
		r := range4{number4(a), ^uint32(0) << (32 - s.Prefix.Bits()), s.Class}
		for first := range byFirst {
			if mask := r.mask >> 24; uint32(first)&mask == r.addr>>24 {
				at := 0
				for at < len(byFirst[first]) && byFirst[first][at].mask > r.mask {
					at++
				}
				byFirst[first] = append(byFirst[first][:at], append([]range4{r}, byFirst[first][at:]...)...)
			}
		}
	}
	return byFirst
}()

func number4(a [4]byte) uint32 {
	return uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
}

// ClassOf4 returns the class of an IPv4 address.
func ClassOf4(v4 [4]byte) Class4 {
	rs := ranges4[v4[0]]
	if len(rs) == 0 {
		return Global
	}
	a := number4(v4)
	for i := range rs {
		if a&rs[i].mask == rs[i].addr {
			return rs[i].class
		}
	}
	return Global
}

// Unicast4 reports whether v4 can be the source or the destination of a packet between hosts, whatever the prefix
// (RFC 7915 section 4.1, RFC 1812 section 5.3.7). This includes link-local addresses.
func Unicast4(v4 [4]byte) bool { return ClassOf4(v4) != Unusable }

// Global4 reports whether v4 is globally reachable, so that the Well-Known Prefix may represent it (RFC 6052 section
// 3.1).
func Global4(v4 [4]byte) bool { return ClassOf4(v4) == Global }

// NonGlobal4 returns the special-purpose addresses that are not globally reachable, without those inside another row.
func NonGlobal4() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range Specials4() {
		if s.Class == Global || len(list) > 0 && list[len(list)-1].Contains(s.Prefix.Addr()) {
			continue
		}
		list = append(list, s.Prefix)
	}
	return list
}

// Unicast6 reports whether a can be the source of a translated packet: a unicast address that is reachable from
// another link. It is false for unspecified, loopback, multicast, link-local, IPv4-mapped and IPv4-compatible
// addresses (RFC 4291 section 2.5).
func Unicast6(a *[16]byte) bool {
	switch {
	case a[0] == 0xff, a[0] == 0xfe && a[1]&0xc0 == 0x80:
		return false
	case a[0] == 0:
		return [12]byte(a[:12]) != [12]byte{} && !Mapped6(a)
	}
	return true
}

// Mapped6 reports whether a is an IPv4-mapped address, ::ffff:0:0/96, which appears on the wire only in forged
// packets (RFC 4291 section 2.5.5.2).
func Mapped6(a *[16]byte) bool { return [12]byte(a[:12]) == [12]byte{10: 0xff, 11: 0xff} }

// LinkLocal6 reports whether a is a link-local unicast address (RFC 4291 section 2.5.6).
func LinkLocal6(a *[16]byte) bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }
