// Package pool6 embeds IPv4 addresses in NAT64 prefixes and extracts them (RFC 6052). It also classifies the IPv4
// addresses that may be embedded.
package pool6

import (
	"errors"
	"fmt"
	"net/netip"
)

// WellKnown is the Well-Known Prefix of RFC 6052 section 2.1.
var WellKnown = netip.MustParsePrefix("64:ff9b::/96")

// Prefix is a translation prefix of one of the six lengths of RFC 6052 section 2.2. It is an immutable, comparable
// value without pointers; the zero value is not valid.
type Prefix struct {
	addr [16]byte
	len  uint8 // in bytes: 4, 5, 6, 7, 8 or 12
	wkp  bool
}

// ParsePrefix parses a prefix such as 64:ff9b::/96. Its errors state the valid form.
func ParsePrefix(s string) (Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return Prefix{}, fmt.Errorf("pool6: %q is not an IPv6 prefix such as 64:ff9b::/96", s)
	}
	return FromPrefix(p)
}

// FromPrefix checks that RFC 6052 section 2.2 allows p and that its addresses can be translated.
func FromPrefix(p netip.Prefix) (Prefix, error) {
	if !p.Addr().Is6() || p.Addr().Zone() != "" {
		return Prefix{}, fmt.Errorf("pool6: %v is not an IPv6 prefix such as 64:ff9b::/96", p)
	}
	switch p.Bits() {
	case 32, 40, 48, 56, 64, 96:
	default:
		return Prefix{}, fmt.Errorf("pool6: %v: the length must be 32, 40, 48, 56, 64 or 96 (RFC 6052)", p)
	}
	if p != p.Masked() {
		return Prefix{}, fmt.Errorf("pool6: %v has bits set after its length; did you mean %v?", p, p.Masked())
	}
	if err := reserved(p.Addr()); err != nil {
		return Prefix{}, fmt.Errorf("pool6: %v %w", p, err)
	}
	a := p.Addr().As16()
	if a[8] != 0 {
		return Prefix{}, fmt.Errorf("pool6: %v: bits 64 to 71 must be zero (RFC 6052 section 2.2)", p)
	}
	if WellKnown.Addr() == p.Addr() && p != WellKnown {
		return Prefix{}, fmt.Errorf("pool6: %v: the well-known prefix is used as %v only (RFC 6052 section 2.1)", p, WellKnown)
	}
	return Prefix{addr: a, len: uint8(p.Bits() / 8), wkp: p == WellKnown}, nil
}

func reserved(a netip.Addr) error {
	switch {
	case a.IsMulticast():
		return errors.New("is multicast: a NAT64 prefix must be unicast")
	case a.IsLinkLocalUnicast():
		return errors.New("is link-local: a NAT64 prefix must be routable")
	case a.Is4In6():
		return errors.New("is the range of IPv4-mapped addresses, which never appear on the wire")
	case a.IsUnspecified():
		return errors.New("covers the unspecified and the loopback address")
	}
	return nil
}

// Prefix returns p as a netip.Prefix.
func (p Prefix) Prefix() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16(p.addr), int(p.len)*8)
}

// String returns p in CIDR notation.
func (p Prefix) String() string { return p.Prefix().String() }

// IsWellKnown reports whether p is 64:ff9b::/96, which may represent only global IPv4 addresses (RFC 6052 section
// 3.1).
func (p Prefix) IsWellKnown() bool { return p.wkp }

// Contains reports whether p contains a. In a /96, bits 64 to 71 are part of the prefix.
func (p *Prefix) Contains(a *[16]byte) bool {
	if p.len == 12 {
		return *(*[12]byte)(a[:]) == *(*[12]byte)(p.addr[:])
	}
	return string(a[:p.len]) == string(p.addr[:p.len])
}

// Embed returns the IPv6 address that represents v4 (RFC 6052 section 2.3): the prefix, the IPv4 address, which skips
// byte 8, and zeros.
func (p *Prefix) Embed(v4 [4]byte) [16]byte {
	a := p.addr
	at := p.len
	for _, b := range v4 {
		if at == 8 {
			at++
		}
		a[at] = b
		at++
	}
	return a
}

// Extract returns the IPv4 address embedded in a. p must contain a. Byte 8 and the suffix are ignored (RFC 6052
// section 2.2).
func (p *Prefix) Extract(a *[16]byte) (v4 [4]byte) {
	if p.len == 12 {
		return [4]byte(a[12:])
	}
	at := p.len
	for i := range v4 {
		if at == 8 {
			at++
		}
		v4[i] = a[at]
		at++
	}
	return v4
}

// Match returns the index of the longest prefix of ps that contains a.
func Match(ps []Prefix, a *[16]byte) (n int, ok bool) {
	best := uint8(0)
	for i := range ps {
		if ps[i].len > best && ps[i].Contains(a) {
			n, ok, best = i, true, ps[i].len
		}
	}
	return n, ok
}
