// Package trace explains in words what the gateway does with packets, step by step with the sections of the RFCs. It is the one
// place with these words: live traces, captures and questions about a packet that is not sent all take them from here.
package trace

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
	"nat64d/session"
)

// Step is one step of the way of a packet.
type Step struct {
	Name string // one word, the same for all packets
	Text string // a phrase for the operator
	RFC  string // the section that demands the step; empty: none does
}

// The names of the steps, in their order.
const (
	Received   = "received"
	Prefix     = "prefix"
	Quoted     = "quoted"
	Checks     = "checks"
	Binding    = "binding"
	Session    = "session"
	Hairpin    = "hairpin"
	NextHop    = "next_hop"
	Size       = "size"
	Translated = "translated"
	Answer     = "answer"
	End        = "end"
)

// Steps returns the steps that a packet has taken; the last is what became of it.
func Steps(v *gateway.Verdict) (steps []Step) {
	add := func(name, rfc, format string, args ...any) {
		steps = append(steps, Step{name, fmt.Sprintf(format, args...), rfc})
	}
	six := v.In.Family == packet.V6
	if v.In.Length == 0 {
		add(Received, "", "%s", received(v))
		add(End, "", "%s", Result(v))
		return steps
	}
	add(Received, sectionOf(six, "RFC 8200 section 3", "RFC 791 section 3.1"), "%s", received(v))
	if six && v.Passed.Has(gateway.InPrefix) {
		add(Prefix, "RFC 6052 section 2.2", "%v behind %v", netip.AddrFrom4(v.Flow.Remote.Addr), v.Prefix)
	}
	if v.Passed.Has(gateway.Looked) {
		state(v, add)
	}
	if v.Passed.Has(gateway.Hairpins) {
		hairpin(&v.Turned, add)
	}
	if v.Passed.Has(gateway.Found) {
		add(NextHop, "", "link address %v, MTU %d", net.HardwareAddr(v.Hop.Dst[:]), v.Hop.MTU)
	}
	sent(v, add)
	answer(v, add)
	add(End, "", "%s", Result(v))
	return steps
}

// hairpin adds the second half of a packet from one client to another.
func hairpin(f *session.Flow, add func(name, rfc, format string, args ...any)) {
	const section = "RFC 6146 section 3.8"
	if f.Client == (packet.Endpoint6{}) {
		add(Hairpin, section, "for %v, an address of pool4", end4(f.Mapped))
		return
	}
	add(Hairpin, section, "for %v, which stands for client %v", end4(f.Mapped), end6(f.Client))
}

// sectionOf returns the first text for a packet from IPv6, the second for one from IPv4.
func sectionOf(six bool, from6, from4 string) string {
	if six {
		return from6
	}
	return from4
}

// received describes a packet as it arrived.
func received(v *gateway.Verdict) string {
	if v.In.Length == 0 {
		return fmt.Sprintf("packets that waited, %d frames in all: their headers are not kept", v.Frames)
	}
	s := Describe(&v.In)
	if v.Frames > 1 {
		s += fmt.Sprintf(", reassembled from %d fragments", v.Frames)
	}
	if v.Waited {
		s += ", has waited for a link address"
	}
	return s
}

// state adds the steps of the tables (RFC 6146 section 3.5).
func state(v *gateway.Verdict, add func(name, rfc, format string, args ...any)) {
	f := &v.Flow
	if Quotes(&v.In) {
		add(Quoted, "RFC 5508 section 4", "an error about %v of client %v with %v", f.Proto, end6(f.Client), end4(f.Remote))
		if v.State.Bound {
			add(Binding, "RFC 6146 section 3.5", "found: %v stands for %v", end4(f.Mapped), end6(f.Client))
		}
		return
	}
	add(Checks, "RFC 6146 section 5.4", "source, access lists, options and hop limit allow it")
	section := "RFC 6146 section " + [packet.Protos]string{packet.UDP: "3.5.1", packet.TCP: "3.5.2", packet.ICMP: "3.5.3"}[f.Proto]
	switch {
	case f.Mapped == packet.Endpoint4{}: // refused: the last step has the reason
	case v.State.Bound:
		add(Binding, section, "found: %v stands for %v", end4(f.Mapped), end6(f.Client))
	case v.Side == packet.V6 && (v.Fate != gateway.Dropped || v.State.Made): // a refusal may have undone it
		add(Binding, section, "made: %v now stands for %v", end4(f.Mapped), end6(f.Client))
	}
	if f.Proto == packet.TCP {
		section = "RFC 6146 section 3.5.2.2"
	}
	switch s := v.State; {
	case s.Made:
		add(Session, section, "made: %v with %v%s", f.Proto, end4(f.Remote), in(s.After))
	case s.After == session.Closed && v.State.Bound && v.Reason == drop.None:
		add(Session, section, "none: the packet passes through the binding")
	case s.After == session.Closed:
	case s.Before != s.After:
		add(Session, section, "found: %v becomes %v", s.Before, s.After)
	default:
		add(Session, section, "found%s", in(s.After))
	}
}

// in returns the state of a TCP session as a clause; other sessions have only one.
func in(s session.State) string {
	if s == session.Active {
		return ""
	}
	return ", state " + s.String()
}

// sent adds the steps of what left.
func sent(v *gateway.Verdict, add func(name, rfc, format string, args ...any)) {
	o := &v.Out
	if o.Length == 0 {
		return
	}
	six := v.In.Family == packet.V6
	add(Translated, sectionOf(six, "RFC 7915 section 5", "RFC 7915 section 4"), "%s", Describe(o))
	section := sectionOf(six, "RFC 7915 section 5.1", "RFC 7915 section 4")
	switch {
	case v.Pieces > 1:
		add(Size, section, "sent in %d packets, the first of %d bytes", v.Pieces, o.Length)
	case o.Segment > 0:
		add(Size, "", "one super-packet, which the NIC or the kernel cuts into segments of %d bytes", o.Segment)
	default:
		add(Size, section, "%d bytes fit into %d", o.Length, v.Hop.MTU)
	}
}

// answer adds the ICMP error or the reset that was sent, or the reason why none was.
func answer(v *gateway.Verdict, add func(name, rfc, format string, args ...any)) {
	a := &v.Answer
	section := sectionOf(v.In.Family == packet.V6, "RFC 4443 section 2.4", "RFC 1812 section 4.3.2.7")
	switch {
	case a.Length == 0 && v.Silence != gateway.NotSilent:
		add(Answer, section, "no ICMP error: %s", silences[v.Silence])
	case a.Length == 0:
	case v.Reason == drop.TooBig:
		add(Answer, section, "%s, which reports the MTU %d", Describe(a), v.AnswerRest)
	default:
		add(Answer, section, "%s", Describe(a))
	}
}

var silences = [gateway.Silences]string{
	gateway.NotEnabled:  "the configuration disables it (icmp)",
	gateway.NotAllowed:  "none may be sent about such a packet",
	gateway.NoWayBack:   "there is no source address for it, or no way to the sender",
	gateway.RateLimited: "too many were sent lately (icmp.rate_per_second, icmp.rate_total)",
}

// Result returns in a phrase what became of a packet.
func Result(v *gateway.Verdict) string {
	return result(v, net.HardwareAddr(v.Hop.Dst[:]).String(), "the next hop")
}

// ResultVia is Result with the address of the next hop and the interface.
func ResultVia(v *gateway.Verdict, via netip.Addr, nic string) string {
	if !via.IsValid() {
		return Result(v)
	}
	return result(v, fmt.Sprintf("%v (%v) on %s", via, net.HardwareAddr(v.Hop.Dst[:]), nic), fmt.Sprintf("%v on %s", via, nic))
}

// result is Result, with names for the next hop of a packet that is forwarded and of one that waits.
func result(v *gateway.Verdict, hop, unknown string) string {
	switch v.Fate {
	case gateway.Forwarded:
		return fmt.Sprintf("forwarded: %s → %s, next hop %s, MTU %d", point(&v.Out, true), point(&v.Out, false), hop, v.Hop.MTU)
	case gateway.WaitsForHop:
		return "waits for the link address of " + unknown + ", which the kernel is asked for"
	case gateway.WaitsForPiece:
		return "waits for the other fragments of its datagram"
	case gateway.StoredSYN:
		return "stored: " + v.Reason.String() + ": " + v.Reason.Help()
	case gateway.LeftToHost:
		return "left to the host: " + v.Reason.String() + ": " + v.Reason.Help()
	default:
		return "dropped: " + v.Reason.String() + ": " + v.Reason.Help()
	}
}

func end4(e packet.Endpoint4) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port)
}

func end6(e packet.Endpoint6) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(e.Addr), e.Port)
}

// Quotes reports whether a packet is an ICMP error, which quotes another packet.
func Quotes(h *gateway.Header) bool {
	switch h.Number {
	case packet.NumICMPv6:
		return h.Type < 128
	case packet.NumICMP:
		return h.Type == 3 || h.Type == 4 || h.Type == 5 || h.Type == 11 || h.Type == 12
	}
	return false
}

// Describe returns the headers of a packet in a phrase: "tcp [2001:db8::8]:37878 → [64:ff9b::c633:6407]:443, SYN, 80 bytes, hop
// limit 64".
func Describe(h *gateway.Header) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s → %s", Protocol(h), point(h, true), point(h, false))
	if d := detail(h); d != "" {
		fmt.Fprintf(&b, ", %s", d)
	}
	fmt.Fprintf(&b, ", %d bytes", h.Length)
	if h.Segment > 0 {
		fmt.Fprintf(&b, " in segments of %d", h.Segment)
	}
	if h.Family == packet.V6 {
		fmt.Fprintf(&b, ", hop limit %d", h.HopLimit)
	} else {
		fmt.Fprintf(&b, ", TTL %d", h.HopLimit)
	}
	if h.Fragment {
		b.WriteString(", a fragment")
	}
	return b.String()
}

// point returns an end of a packet, with its port if it has one.
func point(h *gateway.Header, source bool) string {
	p := h.Destination()
	if source {
		p = h.Source()
	}
	if p.Port() == 0 && h.Number != packet.NumTCP && h.Number != packet.NumUDP {
		return p.Addr().String()
	}
	return p.String()
}

// Protocol returns the name of the protocol of a packet.
func Protocol(h *gateway.Header) string {
	switch h.Number {
	case packet.NumTCP:
		return "tcp"
	case packet.NumUDP:
		return "udp"
	case packet.NumICMP, packet.NumICMPv6:
		return "icmp"
	}
	return fmt.Sprintf("protocol %d", h.Number)
}

// detail returns the flags of a TCP segment, or the name of an ICMP message.
func detail(h *gateway.Header) string {
	switch {
	case h.Number == packet.NumTCP:
		return Flags(h.Flags)
	case h.Echo():
		kind := "echo request"
		if h.Type == packet.EchoReply4 || h.Type == packet.EchoReply6 {
			kind = "echo reply"
		}
		return fmt.Sprintf("%s, Identifier %d", kind, h.ID)
	case h.Number == packet.NumICMP, h.Number == packet.NumICMPv6:
		return message(h)
	}
	return ""
}

// Flags returns the names of the flags of a TCP segment, joined by commas.
func Flags(f uint8) string {
	var names []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"} {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// message returns the name of an ICMP error with its type and code.
func message(h *gateway.Header) string {
	names := map[uint8]string{3: "Destination Unreachable", 4: "Source Quench", 5: "Redirect", 11: "Time Exceeded", 12: "Parameter Problem"}
	kind := "ICMP"
	if h.Number == packet.NumICMPv6 {
		names = map[uint8]string{1: "Destination Unreachable", 2: "Packet Too Big", 3: "Time Exceeded", 4: "Parameter Problem"}
		kind = "ICMPv6"
	}
	name := names[h.Type]
	if h.Number == packet.NumICMP && h.Type == 3 && h.Code == 4 {
		name = "Fragmentation Needed"
	}
	if name == "" {
		return fmt.Sprintf("%s type %d, code %d", kind, h.Type, h.Code)
	}
	return fmt.Sprintf("%s %s (type %d, code %d)", kind, name, h.Type, h.Code)
}
