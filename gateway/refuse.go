package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/metrics"
	"nat64d/packet"
)

// minMTU6 is the smallest MTU that an IPv6 link has (RFC 8200 section 5); a Packet Too Big never says less (RFC 8021).
const minMTU6 = 1280

type limiter struct{ to6, to4 icmp.Limiter }

// refuse6 tells the sender of an IPv6 packet why it is not forwarded, if an ICMPv6 error is due for r, and returns r.
// rest is the error's second word: the MTU of a Packet Too Big.
func (w *worker) refuse6(v *packet.View, r drop.Reason, rest uint32) drop.Reason {
	a := r.Answer6()
	if a == (drop.Answer{}) || !w.answers(r) || !icmp.Answerable6(v) {
		return r
	}
	if r == drop.RoutingHeader {
		rest = uint32(v.Routing)
	}
	dst := *v.IP6().Src()
	src, ok := w.source6(dst)
	f := errorFlow6(src, dst, a)
	hop, pending, no := w.hops.Hop6(f)
	switch {
	case pending:
		w.g.routes.Resolve6(f)
		return w.refuseLater(r)
	case w.withheld(ok && no == drop.None, &w.limit.to6, hash32(dst[:])):
		return r
	}
	o := w.to[V6].next()
	icmp.Error{Answer: a, Rest: rest, Quote: v.Data}.Put6(o, &src, &dst)
	ethernet(o, V6, &hop)
	w.count.Happened(metrics.ErrorSent6)
	w.keep(V6, o)
	return r
}

// refuse4 tells the sender of an IPv4 packet why it is not forwarded, if an ICMPv4 error is due for r, and returns r.
// rest is the error's second word: the MTU of a Fragmentation Needed. The sender of a hairpinned packet is an IPv6 client
// and is told in its own language.
func (w *worker) refuse4(v *packet.View, r drop.Reason, rest uint32) drop.Reason {
	return w.answer4(v, r, answerTo4(v.Proto, r), rest)
}

// answers says whether the administrator would have an error sent for r.
func (w *worker) answers(r drop.Reason) bool {
	c := r.Choice()
	return c == drop.Always || w.conf.Answers[c]
}

// answerTo4 returns the answer to an IPv4 packet. Where that is for a packet that nobody has asked for, it depends on the
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

// answer4 is refuse4 with an answer that need not be that of r.
func (w *worker) answer4(v *packet.View, r drop.Reason, a drop.Answer, rest uint32) drop.Reason {
	if w.hairpin {
		return w.refuseTurned(r, rest)
	}
	if a == (drop.Answer{}) || !w.answers(r) || !icmp.Answerable4(v) {
		return r
	}
	dst := *v.IP4().Src()
	src, ok := w.source4(dst)
	f := errorFlow4(src, dst, a)
	hop, pending, no := w.hops.Hop4(f)
	switch {
	case pending:
		w.g.routes.Resolve4(f)
		return w.refuseLater(r)
	case w.withheld(ok && no == drop.None, &w.limit.to4, hash32(dst[:])):
		return r
	}
	o := w.to[V4].next()
	icmp.Error{Answer: a, Rest: rest, Quote: v.Data}.Put4(o, &src, &dst)
	ethernet(o, V4, &hop)
	w.count.Happened(metrics.ErrorSent4)
	w.keep(V4, o)
	return r
}

// refuseLater keeps the packet at hand, to be refused once more when its sender's link address is known. If there is no
// room for it, it is refused for r without an answer.
func (w *worker) refuseLater(r drop.Reason) drop.Reason {
	if w.park() == drop.None {
		return drop.None
	}
	return r
}

// withheld says whether an error that is due must not be sent, and counts why: there is no way to its receiver, or
// enough has been sent there.
func (w *worker) withheld(reachable bool, l *icmp.Limiter, hash uint32) bool {
	switch {
	case !reachable:
		w.count.Happened(metrics.ErrorNoSource)
	case !l.Allow(hash, w.rates(), w.now):
		w.count.Happened(metrics.ErrorLimited)
	default:
		return false
	}
	return true
}

// refuseTurned refuses the packet at hand, which was refused when it had turned, as the IPv6 packet that it came as.
func (w *worker) refuseTurned(r drop.Reason, rest uint32) drop.Reason {
	w.hairpin = false
	var v packet.View
	if v.Parse6(w.top.Data) != drop.None || v.Extensions6() != drop.None {
		return r // it has passed both when it came
	}
	if r == drop.TooBig {
		rest += shorter
	}
	return w.refuse6(&v, r, rest)
}

// portUnreachable answers a stored SYN whose client has not opened the connection (RFC 6146 section 3.5.2.2),
// hostUnreachable a ping to an Identifier of nobody's (section 3.5.3).
var (
	portUnreachable = drop.Answer{Type: icmp.Unreachable4, Code: 3}
	hostUnreachable = drop.Answer{Type: icmp.Unreachable4, Code: 1}
)

// refuseSYNs answers the stored SYNs whose time is over.
func (w *worker) refuseSYNs() {
	w.syns = w.g.syns.take(w.syns)
	for i := range w.syns {
		dst := w.syns[i].Src.Addr
		src, _ := w.source4(dst)
		f := errorFlow4(src, dst, portUnreachable)
		if _, pending, _ := w.hops.Hop4(f); pending { // the answer is tried again in the next batch
			w.g.routes.Resolve4(f)
			w.g.syns.put(w.syns[i])
			continue
		}
		w.hairpin = false
		v := packet.View{Data: w.syns[i].Packet, Number: packet.NumTCP} // it has been parsed when it came, and may be cut
		w.answer4(&v, drop.StoredSYN, portUnreachable, 0)
	}
}

func (w *worker) rates() icmp.Rates {
	return icmp.Rates{PerSource: w.conf.ErrorsPerSecond, Total: w.conf.ErrorsTotal}
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

// hash32 spreads addresses over buckets (FNV-1a over 32-bit words): of the rates of ICMP errors, of path MTUs and of
// Identifications. Who makes two addresses meet has them share an allowance, forget a path sooner or count together: no packet
// is lost by it.
func hash32(a []byte) uint32 {
	h := uint32(2166136261)
	for ; len(a) >= 4; a = a[4:] {
		h = (h ^ binary.BigEndian.Uint32(a)) * 16777619
		h ^= h >> 15
	}
	return h
}
