package gateway

import (
	"hash/maphash"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// limiter limits the errors of both families. Its hashes are keyed, so that a client cannot choose an address that
// shares the tokens of another.
type limiter struct {
	to6, to4 icmp.Limiter
	resets   icmp.Limiter
	secret   maphash.Seed
}

// refuse6 sends the ICMPv6 error for r, if there is one, to the sender of an IPv6 packet, and returns r. rest is the
// second word of the error: the MTU of a Packet Too Big.
func (w *worker) refuse6(p *inflight, r drop.Reason, rest uint32) drop.Reason {
	if r == drop.RoutingHeader {
		rest = uint32(p.view.Routing)
	}
	if f := w.tell6(p, r, r.Answer6(), rest); f != nil {
		return w.refuseLater(p, way{side: packet.V6, six: *f}, r)
	}
	return r
}

// tell6 sends the error a to the sender of an IPv6 packet that is refused for r, if that is permitted. If the link
// address of the sender is still being resolved, it sends nothing and returns the selector of the error.
func (w *worker) tell6(p *inflight, r drop.Reason, a drop.Answer, rest uint32) (wait *packet.Selector6) {
	v := &p.view
	switch {
	case !w.mayAnswer(a, r):
		return nil
	case !icmp.Answerable6(v):
		w.silent(NotAllowed)
		return nil
	}
	dst := *v.IP6().Src()
	src, ok := w.source6(dst)
	f := w.out.Select6(own6(src, dst, a))
	hop, pending, no := w.hop6(p, f)
	switch {
	case pending:
		return f
	case w.withheld(ok && no == drop.None, &w.limit.to6, r, v, dst[:]):
		return nil
	}
	o := w.out.Next6()
	icmp.Error{Answer: a, Rest: rest, Quote: v.Data}.Put6(o, &src, &dst)
	w.count.Happened(metrics.ErrorSent6(a.Type))
	if w.tap != nil {
		w.tap.answers(rest)
	}
	w.out.Post6(o, &hop)
	return nil
}

// refuse4 tells the sender of an IPv4 packet why it is not forwarded, if an ICMPv4 error is due for r, and returns r.
// rest is the error's second word: the MTU of a Fragmentation Needed. The sender of a hairpinned packet is an IPv6 client
// and gets an ICMPv6 error.
func (w *worker) refuse4(p *inflight, r drop.Reason, rest uint32) drop.Reason {
	if p.hairpin {
		return w.refuseTurned(p, r, rest)
	}
	if f := w.tell4(p, r, answerTo4(p.view.Proto, r), rest); f != nil {
		return w.refuseLater(p, way{side: packet.V4, four: *f}, r)
	}
	return r
}

// mayAnswer reports whether there is an error a for r and the configuration enables it.
func (w *worker) mayAnswer(a drop.Answer, r drop.Reason) bool {
	if a == (drop.Answer{}) {
		return false
	}
	if !w.answers(r) {
		w.silent(NotEnabled)
		return false
	}
	return true
}

// answers reports whether the configuration enables an error for r.
func (w *worker) answers(r drop.Reason) bool {
	c := r.Choice()
	return c == drop.Always || w.conf.Answers[c]
}

// answerTo4 returns the answer to an IPv4 packet. For an unsolicited packet it depends on the
// protocol: a TCP segment is dropped silently (RFC 6146 section 3.5.2.2), and a ping is not to a port (section 3.5.3).
func answerTo4(p packet.Proto, r drop.Reason) drop.Answer {
	switch c := r.Choice(); {
	case p == packet.TCP && (c == drop.IfUnbound || c == drop.IfFiltered):
		return drop.Answer{}
	case p == packet.ICMP && c == drop.IfUnbound:
		return hostUnreachable
	}
	return r.Answer4()
}

// tell4 is like tell6, for an IPv4 packet.
func (w *worker) tell4(p *inflight, r drop.Reason, a drop.Answer, rest uint32) (wait *packet.Selector4) {
	v := &p.view
	switch {
	case !w.mayAnswer(a, r):
		return nil
	case !icmp.Answerable4(v):
		w.silent(NotAllowed)
		return nil
	}
	dst := *v.IP4().Src()
	src, ok := w.source4(dst)
	f := w.out.Select4(own4(src, dst, a))
	hop, pending, no := w.hop4(p, f)
	switch {
	case pending:
		return f
	case w.withheld(ok && no == drop.None, &w.limit.to4, r, v, dst[:]):
		return nil
	}
	o := w.out.Next4()
	icmp.Error{Answer: a, Rest: rest, Quote: v.Data}.Put4(o, &src, &dst)
	w.count.Happened(metrics.ErrorSent4(a.Type, a.Code))
	if w.tap != nil {
		w.tap.answers(rest)
	}
	w.out.Post4(o, &hop)
	return nil
}

// refuseLater parks a packet, to refuse it again when y, the way to its sender, is known. A packet that has waited
// too long is refused for r without an error.
func (w *worker) refuseLater(p *inflight, y way, r drop.Reason) drop.Reason {
	if w.trial == nil && w.park(p, y) == drop.None { // Explain returns the reason at once
		return drop.None
	}
	return r
}

// withheld reports whether the error for r about the packet in v must not be sent to dst, and counts the reason: dst
// is unreachable, or a rate limit is reached.
func (w *worker) withheld(reachable bool, l *icmp.Limiter, r drop.Reason, v *packet.View, dst []byte) bool {
	if !reachable {
		w.count.Happened(metrics.ErrorNoSource)
		w.silent(NoWayBack)
		return true
	}
	kind, probe := icmp.Other, uint32(0)
	switch r {
	case drop.TooBig:
		kind = icmp.Size
	case drop.HopLimit:
		kind, probe = icmp.Hops, w.limit.hash(first(v.Transport()))
	}
	if l.Allow(kind, w.limit.hash(dst), probe, w.rates(), w.now) {
		return false
	}
	w.count.Happened(metrics.ErrorLimited)
	w.silent(RateLimited)
	return true
}

// first returns the bytes of a transport header in which the probes of a traceroute differ: ports, length, checksum,
// sequence number.
func first(transport []byte) []byte { return transport[:min(len(transport), 8)] }

func (l *limiter) hash(b []byte) uint32 { return uint32(maphash.Bytes(l.secret, b)) }

// refuseTurned refuses a hairpinned packet in its original IPv6 form.
func (w *worker) refuseTurned(p *inflight, r drop.Reason, rest uint32) drop.Reason {
	six := inflight{arrived: p.arrived, frame: p.arrived, whole: p.whole, until: p.until}
	if six.view.Parse6(six.frame.Data) != drop.None || six.view.Extensions6() != drop.None {
		return r // both were checked when it arrived
	}
	if r == drop.TooBig {
		rest += packet.IPv6Len - packet.IPv4Len
	}
	return w.refuse6(&six, r, rest)
}

// portUnreachable4 and portUnreachable6 answer a stored SYN whose client has not opened the connection (RFC 6146 section
// 3.5.2.2), hostUnreachable a ping to an Identifier without a binding (section 3.5.3).
var (
	portUnreachable4 = drop.Answer{Type: icmp.Unreachable4, Code: 3}
	portUnreachable6 = drop.Answer{Type: icmp.Unreachable6, Code: 4}
	hostUnreachable  = drop.Answer{Type: icmp.Unreachable4, Code: 1}
)

// refuseSYNs answers the stored SYNs whose time is over. One whose sender's link address is not known yet is tried again in
// the next batch.
func (w *worker) refuseSYNs() {
	w.swept.syns = w.g.mail.syns.take(w.swept.syns)
	for i := range w.swept.syns {
		if w.refuseSYN(w.swept.syns[i].Packet) {
			w.g.mail.syns.put(w.swept.syns[i])
		}
	}
}

// refuseSYN answers a stored SYN, which was parsed when it arrived, and may be truncated.
func (w *worker) refuseSYN(syn []byte) (pending bool) {
	p := newInflight(packet.Frame{Data: syn})
	p.view = packet.View{Data: syn, Number: packet.NumTCP, L4: packet.IPv4Len}
	if syn[0]>>4 == 6 { // hairpinned: its sender is a client
		p.view.L4 = packet.IPv6Len
		return w.tell6(&p, drop.StoredSYN, portUnreachable6, 0) != nil
	}
	return w.tell4(&p, drop.StoredSYN, portUnreachable4, 0) != nil
}

func (w *worker) rates() icmp.Rates {
	c := w.conf
	return icmp.Rates{PerDestination: c.ErrorsPerSecond, Total: c.ErrorsTotal, SizePerDestination: c.TooBigPerSecond}
}

func (w *worker) source6(dst packet.Addr6) (packet.Addr6, bool) {
	if w.conf.Source6 != (packet.Addr6{}) {
		return w.conf.Source6, true
	}
	return w.g.routes.Source6(dst)
}

func (w *worker) source4(dst packet.Addr4) (packet.Addr4, bool) {
	if w.conf.Source4 != (packet.Addr4{}) {
		return w.conf.Source4, true
	}
	return w.g.routes.Source4(dst)
}

// own6 and own4 return the selectors of ICMP errors that the gateway originates.
func own6(src, dst packet.Addr6, a drop.Answer) packet.Selector6 {
	return packet.Selector6{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMPv6, Origin: packet.FromHost}
}

func own4(src, dst packet.Addr4, a drop.Answer) packet.Selector4 {
	return packet.Selector4{Src: src, Dst: dst, SrcPort: uint16(a.Type), DstPort: uint16(a.Code), Proto: packet.NumICMP, Origin: packet.FromHost}
}
