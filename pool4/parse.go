package pool4

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"nat64d/packet"
)

// maxAddresses bounds one range: a /16.
const maxAddresses = 1 << 16

// ParseRange parses the ranges of configuration and commands: addresses as "192.0.2.1", "192.0.2.0/28" or
// "192.0.2.1-192.0.2.9", and ports as "7000-8000", "7000" or "", which means 1024-65535 for TCP and UDP and all
// Identifiers, 0-65535, for ICMP. It returns one entry for each address and protocol, sorted; without protocols it
// returns entries of all three.
func ParseRange(addresses, ports string, protos ...packet.Proto) ([]Entry, error) {
	if len(protos) == 0 {
		protos = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}
	}
	first, last, err := parseAddresses(addresses)
	if err != nil {
		return nil, err
	}
	tmpl := make([]Entry, len(protos))
	for i, p := range protos {
		if tmpl[i], err = parsePorts(ports, p); err != nil {
			return nil, err
		}
	}
	entries := make([]Entry, 0, int(last-first+1)*len(tmpl))
	for n := int64(first); n <= int64(last); n++ {
		for _, e := range tmpl {
			e.Addr = addrOf(uint32(n))
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// Split splits a word such as 10.0.2.15:7000-8000 into addresses and ports at a colon, a space or Jool's #. It returns
// a word without ports, or an IPv6 address, unchanged, for ParseRange to refuse.
func Split(s string) (addresses, ports string) {
	at := strings.IndexAny(s, ":# ")
	if at < 0 || strings.Count(s, ":") > 1 {
		return s, ""
	}
	return s[:at], strings.TrimLeft(s[at+1:], " ")
}

// parseAddresses returns the first and the last address.
func parseAddresses(s string) (first, last uint32, err error) {
	a, b, isRange := strings.Cut(s, "-")
	switch {
	case s == "":
		return 0, 0, fmt.Errorf("pool4: no address: write 192.0.2.1, 192.0.2.0/28 or 192.0.2.1-192.0.2.9")
	case looksLikeIPv6(s):
		return 0, 0, notIPv4(s)
	case strings.ContainsAny(s[1:], ":# "):
		return 0, 0, fmt.Errorf("pool4: %q: write the ports once: either behind the colon, as in 192.0.2.1:7000-8000, or apart from the address", s)
	case strings.Contains(s, "/"):
		first, last, err = parsePrefix(s)
	case isRange:
		first, last, err = parsePair(s, a, b)
	default:
		first, err = parseAddr(s)
		last = first
	}
	if err != nil {
		return 0, 0, err
	}
	if n := int64(last) - int64(first) + 1; n > maxAddresses {
		return 0, 0, fmt.Errorf("pool4: %s: %d addresses are too many: one range holds at most a /16, %d", s, n, maxAddresses)
	}
	for _, n := range []uint32{first, last} {
		if err := CheckAddr(addrOf(n)); err != nil {
			return 0, 0, err
		}
	}
	return first, last, nil
}

func parsePrefix(s string) (first, last uint32, err error) {
	a, bits, _ := strings.Cut(s, "/")
	if first, err = parseAddr(a); err != nil {
		return 0, 0, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return 0, 0, fmt.Errorf("pool4: %s: /%s is not a prefix length: it must be 16 to 32", s, bits)
	}
	if p != p.Masked() {
		return 0, 0, fmt.Errorf("pool4: %s has bits set behind the prefix: write %v for the network or %v for the address alone", s, p.Masked(), p.Addr())
	}
	return first, first | ^uint32(0)>>p.Bits(), nil
}

func parsePair(s, a, b string) (first, last uint32, err error) {
	if first, err = parseAddr(a); err != nil {
		return 0, 0, err
	}
	if last, err = parseAddr(b); err != nil {
		return 0, 0, err
	}
	if first > last {
		return 0, 0, fmt.Errorf("pool4: %s: the range is reversed: write %s-%s", s, b, a)
	}
	return first, last, nil
}

func parseAddr(s string) (uint32, error) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return 0, fmt.Errorf("pool4: %q is not an IPv4 address: write four numbers of 0 to 255 without leading zeros, such as 192.0.2.1", s)
	}
	if !a.Is4() {
		return 0, notIPv4(s)
	}
	return numOf(a), nil
}

// looksLikeIPv6 reports whether s begins with an IPv6 address, also as a part of a prefix or range.
func looksLikeIPv6(s string) bool {
	colon, dot := strings.IndexByte(s, ':'), strings.IndexByte(s, '.')
	return s[0] == '[' && colon >= 0 || strings.Count(s, ":") > 1 && (dot < 0 || colon < dot)
}

// notIPv4 returns the error for an IPv6 address.
func notIPv4(s string) error {
	return fmt.Errorf("pool4: %s is an IPv6 address: pool4 holds IPv4 addresses such as 192.0.2.1 (NAT64 prefixes belong to pool6)", s)
}

// parsePorts returns an entry without an address.
func parsePorts(s string, p packet.Proto) (Entry, error) {
	e := Entry{Proto: p, Lo: 1024, Hi: 65535}
	if p == packet.ICMP {
		e.Lo = 0
	}
	if s == "" {
		return e, nil
	}
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	var err error
	if e.Lo, err = parsePort(s, a); err != nil {
		return Entry{}, err
	}
	if e.Hi, err = parsePort(s, b); err != nil {
		return Entry{}, err
	}
	if e.Lo > e.Hi {
		return Entry{}, fmt.Errorf("pool4: ports %s: the range is reversed: write %d-%d", s, e.Hi, e.Lo)
	}
	if e.Lo == 0 && p != packet.ICMP {
		return Entry{}, fmt.Errorf("pool4: ports %s: %v has no port 0: the lowest is 1 (only ICMP Identifiers begin at 0)", s, p)
	}
	return e, nil
}

func parsePort(s, number string) (uint16, error) {
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || strconv.FormatUint(n, 10) != number {
		return 0, fmt.Errorf("pool4: ports %q: %q is not a port: write 7000-8000 or 7000, numbers of 1 to 65535 without leading zeros", s, number)
	}
	return uint16(n), nil
}

// numOf returns an IPv4 address as a number in host order.
func numOf(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

// num4 is numOf for the bytes of an address.
func num4(a packet.Addr4) uint32 { return binary.BigEndian.Uint32(a[:]) }

func addrOf(n uint32) netip.Addr {
	return netip.AddrFrom4(addr4Of(n))
}

func addr4Of(n uint32) (a packet.Addr4) {
	binary.BigEndian.PutUint32(a[:], n)
	return a
}
