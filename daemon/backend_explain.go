//go:build linux

package daemon

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"nat64d/gateway"
	"nat64d/linux/nexthop"
	"nat64d/ops/control"
	"nat64d/ops/trace"
	"nat64d/packet"
	"nat64d/session"
)

// Explain implements control.Backend.
func (b *backend) Explain(q control.Question) (control.Explanation, error) {
	var x control.Explanation
	p := b.probe(&q, &x)
	data, err := p.Packet()
	if err != nil {
		return x, &control.Error{Message: "size: " + err.Error(), Hint: "leave it out for the shortest packet"}
	}
	e := b.gateway.Explain(p.Side(), data)
	x.Verdict = verdict(&e.Verdict)
	x.Expires = control.Seconds(e.Expires)
	b.explainRule(&e.Verdict, x.Steps)
	for i := range e.Ends {
		x.Ends = append(x.Ends, b.ending(&e.Ends[i]))
	}
	x.Via, x.Interface = b.via(&e.Verdict)
	x.Steps[len(x.Steps)-1].Text = trace.ResultVia(&e.Verdict, x.Via, x.Interface)
	return x, nil
}

// explainRule adds the rule of pool4 that has chosen the address of a new binding to the step of the binding.
func (b *backend) explainRule(v *gateway.Verdict, steps []control.Step) {
	f := &v.Flow
	rule, ok := b.pool.RuleOf(f.Proto, netip.AddrFrom4(f.Mapped.Addr))
	if !ok || v.Side != packet.V6 || v.State.Bound {
		return
	}
	for i := range steps {
		if steps[i].Step == trace.Binding && len(rule.Sources) > 0 {
			steps[i].Text += fmt.Sprintf(", an address for clients of %s", strings.Trim(fmt.Sprint(rule.Sources), "[]"))
		}
	}
}

// probe returns the packet of a question. It notes in x what the question leaves open.
func (b *backend) probe(q *control.Question, x *control.Explanation) trace.Probe {
	assume := func(format string, args ...any) { x.Assumed = append(x.Assumed, fmt.Sprintf(format, args...)) }
	p := trace.Probe{Reply: q.Reply, Length: q.Size, DF: q.DF, HopLimit: 64, Flags: segmentFlags[q.Flags]}
	for _, proto := range protocols {
		if proto.String() == q.Protocol {
			p.Proto = proto
		}
	}
	if q.HopLimit != 0 {
		p.HopLimit = uint8(q.HopLimit)
	}
	dst := q.Destination
	if q.Source.Is6() && dst.Is4() {
		dst = netip.AddrFrom16(b.config().Pool6[0].Embed(dst.As4()))
		assume("%v is %v to the client", q.Destination, dst)
	}
	src, to := q.SourcePort, q.DestinationPort
	if p.Proto == packet.ICMP && src == nil {
		src = to
	}
	if src == nil {
		const lowest, all = 49152, 16384 // RFC 6335 section 6: the dynamic ports
		port := uint16(lowest + rand.IntN(all))
		src = &port
		assume("%s %d", map[bool]string{true: "Identifier", false: "source port"}[p.Proto == packet.ICMP], port)
	}
	if p.Proto == packet.ICMP {
		to = src
	}
	p.Src, p.Dst = netip.AddrPortFrom(q.Source, *src), netip.AddrPortFrom(dst, *to)
	return p
}

// segmentFlags are the flags of the TCP segments of control.Question.
var segmentFlags = map[string]uint8{
	"": packet.FlagSYN, "syn": packet.FlagSYN, "syn-ack": packet.FlagSYN | packet.FlagACK, "ack": packet.FlagACK,
	"fin": packet.FlagFIN | packet.FlagACK, "rst": packet.FlagRST,
}

// ending returns a session that would end.
func (b *backend) ending(f *session.Flow) control.Session {
	return b.session(&session.Session{Proto: f.Proto, Client: f.Client, Mapped: f.Mapped, Remote: f.Remote, Prefix: f.Prefix})
}

// via returns the router, or the destination on the link, that a packet leaves to, and the interface. It returns none for a packet
// that does not leave.
func (b *backend) via(v *gateway.Verdict) (netip.Addr, string) {
	if v.Fate != gateway.Forwarded && v.Fate != gateway.WaitsForHop || !v.Passed.Has(gateway.Looked) {
		return netip.Addr{}, ""
	}
	view, f := nexthop.NewView(b.routes), &v.Flow
	number := [packet.Protos]uint8{packet.TCP: packet.NumTCP, packet.UDP: packet.NumUDP, packet.ICMP: packet.NumICMP}[f.Proto]
	if v.Side == packet.V6 && !v.Passed.Has(gateway.Hairpins) {
		return view.Via4(&packet.Selector4{
			Src: f.Mapped.Addr, Dst: f.Remote.Addr, SrcPort: f.Mapped.Port, DstPort: f.Remote.Port, Proto: number, Origin: packet.FromV6,
		}), b.routes.Link4().Name
	}
	client, remote, origin := f.Client, f.Remote, packet.FromV4
	if v.Passed.Has(gateway.Hairpins) {
		client, remote, origin = v.Turned.Client, v.Turned.Remote, packet.FromV6
	}
	if f.Proto == packet.ICMP {
		number = packet.NumICMPv6
	}
	return view.Via6(&packet.Selector6{
		Src: v.Prefix.Embed(remote.Addr), Dst: client.Addr, SrcPort: remote.Port, DstPort: client.Port, Proto: number, Origin: origin,
	}), b.routes.Link6().Name
}
