//go:build linux

package nexthop

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// Attributes of rules that x/sys lacks (linux/fib_rules.h, Linux 6.13 to 6.16).
const (
	fraDSCP          = 25
	fraFlowLabel     = 26
	fraFlowLabelMask = 27
	fraSportMask     = 28
	fraDportMask     = 29
	fraDSCPMask      = 30
)

// fibRuleInvert is FIB_RULE_INVERT: "ip rule add not …".
const fibRuleInvert = 2

// The bits of the type of service that IPv4 rules and routes with a TOS match (IPTOS_RT_MASK), and those of a DSCP.
const (
	tosMask  = 0x1c
	dscpMask = 0xfc
)

// ruleMessage is a parsed RTM_NEWRULE message.
type ruleMessage struct {
	priority   uint32
	action     uint8  // FR_ACT_…
	table      uint32 // of FR_ACT_TO_TBL
	target     uint32 // of FR_ACT_GOTO: a priority
	match      selector
	iif        string
	impossible bool // it requires something that forwarded packets lack: a mark, an outgoing interface, a user, a tunnel
	l3mdev     bool // its table is that of the VRF
	invert     bool
	suppress   suppress
}

// selector contains the fields that a rule matches.
type selector struct {
	src, dst     netip.Prefix // invalid: any
	sport, dport portRange
	proto        uint8 // 0: any
	tos, mask    uint8 // (tos ^ selector.tos) & mask must be 0
}

// portRange is a range of ports or, with a mask, the ports that equal lo in its bits; zero: any.
type portRange struct{ lo, hi, mask uint16 }

func (p portRange) contains(port uint16) bool {
	switch {
	case p == portRange{}:
		return true
	case p.mask != 0:
		return (port^p.lo)&p.mask == 0
	}
	return p.lo <= port && port <= p.hi
}

// matches reports whether s matches f.
func (s *selector) matches(f *flow) bool {
	return (s.mask == 0 || (f.tos^s.tos)&s.mask == 0) &&
		(s.proto == 0 || s.proto == f.proto) &&
		(!s.dst.IsValid() || s.dst.Contains(f.dst)) &&
		(!s.src.IsValid() || s.src.Contains(f.src)) &&
		f.inPorts(s.sport, s.dport)
}

// inPorts reports whether the ports are in the ranges. Rules only match ports of TCP and UDP.
func (f *flow) inPorts(src, dst portRange) bool {
	if src == (portRange{}) && dst == (portRange{}) {
		return true
	}
	if f.proto != packet.NumTCP && f.proto != packet.NumUDP {
		return src.contains(0) && dst.contains(0)
	}
	return src.contains(f.sport) && dst.contains(f.dport)
}

// suppress describes the results of a table that a rule rejects.
type suppress struct {
	bits  int32 // prefixes of at most this length; -1: none
	group int32 // routes through an interface of this group; -1: none
}

// parseRule parses a struct fib_rule_hdr and its attributes. It returns false if the message is malformed or of
// another family.
func parseRule(b []byte) (ruleMessage, bool) {
	if len(b) < unix.SizeofRtMsg {
		return ruleMessage{}, false
	}
	any, ok := zero(b[0])
	if !ok {
		return ruleMessage{}, false
	}
	p := ruleParser{
		ruleMessage: ruleMessage{
			action: b[7], table: uint32(b[4]), suppress: suppress{-1, -1},
			invert: binary.NativeEndian.Uint32(b[8:])&fibRuleInvert != 0,
		},
		src: any, dst: any,
	}
	if b[3] != 0 {
		p.match.tos, p.match.mask = b[3], dscpMask
		if any.Is4() {
			p.match.mask = tosMask
		}
	}
	if !attributes(b[unix.SizeofRtMsg:], p.attribute) || p.bad || !p.prefixes(any, b[1], b[2]) {
		return ruleMessage{}, false
	}
	p.finish()
	return p.ruleMessage, true
}

// ruleParser collects the attributes of one rule.
type ruleParser struct {
	ruleMessage
	src, dst     netip.Addr
	mark, mask   uint32
	masked, bad  bool
	dscp, full   uint8
	sports, dpts uint16 // masks of ports
}

// prefixes sets the prefixes of a rule. A length of 0 means no prefix.
func (p *ruleParser) prefixes(any netip.Addr, dstBits, srcBits uint8) bool {
	for _, e := range []struct {
		addr netip.Addr
		bits uint8
		to   *netip.Prefix
	}{{p.dst, dstBits, &p.match.dst}, {p.src, srcBits, &p.match.src}} {
		if e.bits == 0 {
			continue
		}
		prefix, err := e.addr.Prefix(int(e.bits))
		if err != nil || e.addr.Is4() != any.Is4() {
			return false
		}
		*e.to = prefix
	}
	return true
}

// attribute parses one attribute of the rule. An unknown attribute restricts the rule in an unknown way, so the rule
// is treated as matching no packet.
func (p *ruleParser) attribute(kind uint16, v []byte) {
	switch kind {
	case unix.FRA_DST:
		p.address(&p.dst, v)
	case unix.FRA_SRC:
		p.address(&p.src, v)
	case unix.FRA_IIFNAME:
		p.iif = text(v)
	case unix.FRA_GOTO:
		p.target = number(v)
	case unix.FRA_PRIORITY:
		p.priority = number(v)
	case unix.FRA_FWMARK:
		p.mark = number(v)
	case unix.FRA_FWMASK:
		p.mask, p.masked = number(v), true
	case unix.FRA_TABLE:
		p.table = number(v)
	case unix.FRA_SUPPRESS_IFGROUP:
		p.suppress.group = int32(number(v))
	case unix.FRA_SUPPRESS_PREFIXLEN:
		p.suppress.bits = int32(number(v))
	case unix.FRA_L3MDEV:
		p.l3mdev = len(v) > 0 && v[0] != 0
	case unix.FRA_UID_RANGE: // forwarded packets belong to root
		p.impossible = p.impossible || number(v) != 0
	case unix.FRA_OIFNAME, unix.FRA_TUN_ID:
		p.impossible = true
	case unix.FRA_FLOW, unix.FRA_PROTOCOL, unix.FRA_PAD: // an account and the creator of the rule, which do not affect matching
	default:
		p.flowAttribute(kind, v)
	}
}

// flowAttribute parses the attributes for protocol, ports and traffic class.
func (p *ruleParser) flowAttribute(kind uint16, v []byte) {
	switch kind {
	case unix.FRA_IP_PROTO:
		p.match.proto = first(v)
	case unix.FRA_SPORT_RANGE:
		p.match.sport = ports(v)
	case unix.FRA_DPORT_RANGE:
		p.match.dport = ports(v)
	case fraSportMask:
		p.sports = uint16(number(append(v[:len(v):len(v)], 0, 0)))
	case fraDportMask:
		p.dpts = uint16(number(append(v[:len(v):len(v)], 0, 0)))
	case fraDSCP:
		p.dscp, p.full = first(v)<<2, dscpMask
	case fraDSCPMask:
		p.full = first(v) << 2
	case fraFlowLabel: // translated packets have flow label 0
		p.impossible = p.impossible || len(v) != 4 || binary.BigEndian.Uint32(v) != 0
	case fraFlowLabelMask:
	default:
		p.impossible = true
	}
}

// address parses an address of the rule.
func (p *ruleParser) address(to *netip.Addr, v []byte) {
	var ok bool
	*to, ok = netip.AddrFromSlice(v)
	p.bad = p.bad || !ok
}

// finish combines values from several attributes.
func (p *ruleParser) finish() {
	if p.mark != 0 && !p.masked {
		p.mask = ^uint32(0)
	}
	p.impossible = p.impossible || p.mark&p.mask != 0
	if p.full != 0 {
		p.match.tos, p.match.mask = p.dscp, p.full
	}
	p.match.sport.masked(p.sports)
	p.match.dport.masked(p.dpts)
}

// masked makes a range match the ports that equal lo in the bits of mask.
func (p *portRange) masked(mask uint16) {
	if mask != 0 && mask != 0xffff && *p != (portRange{}) {
		p.mask = mask
	}
}

// ports parses a struct fib_rule_port_range.
func ports(v []byte) portRange {
	if len(v) < 4 {
		return portRange{}
	}
	return portRange{lo: binary.NativeEndian.Uint16(v), hi: binary.NativeEndian.Uint16(v[2:])}
}

// first returns the first byte of an attribute, or 0 if it is empty.
func first(v []byte) uint8 {
	if len(v) == 0 {
		return 0
	}
	return v[0]
}

// text parses a string that ends with a zero byte.
func text(v []byte) string {
	for i, b := range v {
		if b == 0 {
			return string(v[:i])
		}
	}
	return string(v)
}
