package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/xlat"
)

// message is an ICMP error that came in, taken apart.
type message struct {
	kind       drop.Answer
	rest       uint32
	quote      packet.View
	extensions []byte
}

// read6 takes the ICMPv6 error in v apart. Its checksum must be right, since its body is rewritten (RFC 5508 section 4).
func (m *message) read6(v *packet.View, off packet.Offload) drop.Reason {
	h := v.IP6()
	sum := packet.Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(v.Data)-v.L4, packet.NumICMPv6)
	body, r := m.header(v, off, sum, 4, 8)
	if r != drop.None {
		return r
	}
	return m.quote.Quoted6(body)
}

// read4 takes the ICMP error in v apart, as read6 does.
func (m *message) read4(v *packet.View, off packet.Offload) drop.Reason {
	body, r := m.header(v, off, 0, 5, 4)
	if r != drop.None {
		return r
	}
	return m.quote.Quoted4(body)
}

// header reads the 8 bytes that all errors begin with; lengthAt is where the length of the quoted packet is, which counts
// in units of unit bytes (RFC 4884).
func (m *message) header(v *packet.View, off packet.Offload, pseudo packet.Sum, lengthAt, unit int) ([]byte, drop.Reason) {
	b := v.Transport()
	if off.Checksum == packet.ChecksumUnknown && pseudo.Bytes(b).Fold() != 0xffff {
		return nil, drop.ICMPChecksum
	}
	m.kind, m.rest = drop.Answer{Type: b[0], Code: b[1]}, binary.BigEndian.Uint32(b[4:])
	extensible := icmp.Extensible6
	if v.Number == packet.NumICMP {
		extensible = icmp.Extensible4
	}
	if !extensible(m.kind) {
		return b[packet.ICMPLen:], drop.None
	}
	body, extensions := icmp.Split(b[packet.ICMPLen:], b[lengthAt], unit)
	m.extensions = extensions
	return body, drop.None
}

// foreign reports whether the quoted packet has been read and is of a transport that is not translated, so that it was the
// host that sent it.
func (m *message) foreign() bool {
	switch m.quote.Number {
	case packet.NumTCP, packet.NumUDP, packet.NumICMP:
		return false
	}
	return m.quote.Data != nil
}

// error6 takes an ICMPv6 error from an IPv6 node to the IPv4 host that sent the quoted packet. It creates and refreshes
// no state (RFC 6146 section 3.5).
func (w *worker) error6(v *packet.View, off packet.Offload, pref uint8) drop.Reason {
	var m message
	if r := m.read6(v, off); r != drop.None {
		return r
	}
	q := m.quote.IP6()
	client := packet.Endpoint6{Addr: *q.Dst(), Port: m.quote.DstPort}
	mapped, ok := w.g.Bindings.Lookup6(m.quote.Proto, client)
	switch {
	case !ok:
		return drop.ICMPErrorUnbound
	case *q.Src() != *v.IP6().Dst(): // the error does not go to the sender of the quoted packet
		return drop.ICMPErrorInner
	}
	peer := w.conf.prefixes[pref].Extract(q.Src())
	if r := w.flow(m.quote.Proto, &client.Addr, packet.Endpoint4{Addr: peer, Port: m.quote.SrcPort}, pref); r != drop.None {
		return r
	}
	answer, pointer, ok := icmp.To4(m.kind, m.rest)
	if !ok {
		return drop.ICMPType
	}
	if icmp.IsTooBig6(m.kind) {
		out := w.out.Select4(packet.Selector4{Src: mapped.Addr, Dst: peer, Proto: packet.NumICMP, Origin: w.origin()})
		pointer = icmp.MTU4(m.rest, w.out.MTU6(w.out.Reply6(v)), w.out.MTU4(out), m.quote.Fragmented)
	}
	e := xlat.Error{Answer: answer, Rest: pointer, Quote: &m.quote}
	if icmp.Extensible4(answer) && !icmp.IsTooBig6(m.kind) {
		e.Extensions = m.extensions
	}
	o := w.out.Large4()
	t := packet.Tuple4{Src: packet.Endpoint4{Addr: peer, Port: m.quote.SrcPort}, Dst: mapped} // the quoted packet came to us like this
	out := packet.Tuple4{Src: mapped, Dst: t.Src}
	w.conf.Xlat.ErrorTo4(o, v, e, &mapped.Addr, &peer, t, w.out.ID(&out, packet.ICMP, packet.Offload{}))
	if w.turns(m.quote.Proto, &out) {
		return w.turn(o)
	}
	return w.leave4(v, o)
}

// error4 takes an ICMP error from the IPv4 network to the client that sent the quoted packet. It creates and refreshes no
// state (RFC 6146 section 3.5).
func (w *worker) error4(v *packet.View, m *message) drop.Reason {
	q := m.quote.IP4()
	mapped := packet.Endpoint4{Addr: *q.Src(), Port: m.quote.SrcPort}
	remote := packet.Endpoint4{Addr: *q.Dst(), Port: m.quote.DstPort}
	flow := session.Flow{Proto: m.quote.Proto, Mapped: mapped, Remote: remote}
	switch {
	case !w.g.Sessions.Peek4(&flow):
		return drop.ICMPErrorUnbound
	case *q.Src() != *v.IP4().Dst(): // the error does not go to the sender of the quoted packet
		return drop.ICMPErrorInner
	}
	pref := w.conf.number(flow.Prefix)
	if r := w.flow(m.quote.Proto, &flow.Client.Addr, remote, pref); r != drop.None {
		return r
	}
	answer, pointer, ok := icmp.To6(m.kind, m.rest)
	if !ok {
		return drop.ICMPType
	}
	prefix := &w.conf.prefixes[pref]
	if icmp.IsTooBig4(m.kind) {
		mtu := icmp.Plateau(m.rest&0xffff, q.TotalLen(), w.conf.Plateaus)
		out := w.out.Select6(packet.Selector6{Src: prefix.Embed(*q.Dst()), Dst: flow.Client.Addr, Proto: packet.NumICMPv6, Origin: w.origin()})
		pointer = icmp.MTU6(mtu, w.out.MTU6(out), w.out.MTU4(w.out.Reply4(v)))
		if flow.Slot() != 0 { // others could name any destination
			w.g.paths.Learn(*q.Dst(), mtu, w.now)
		}
	}
	e := xlat.Error{Answer: answer, Rest: pointer, Quote: &m.quote}
	if icmp.Extensible6(answer) {
		e.Extensions = m.extensions
	}
	peer := prefix.Embed(*q.Dst())
	src := w.reporter(v, pref, peer)
	o := w.out.Large6()
	t := packet.Tuple6{Src: flow.Client, Dst: packet.Endpoint6{Addr: peer, Port: m.quote.DstPort}}
	w.conf.Xlat.ErrorTo6(o, v, e, &src, &flow.Client.Addr, t)
	return w.leave6(v, o)
}

// reporter returns the source of a translated ICMP error: the router that reports it, so that traceroute shows it, or,
// where its address cannot stand behind the prefix, the destination of the quoted packet (RFC 6146 section 3.6.2).
func (w *worker) reporter(v *packet.View, pref uint8, peer packet.Addr6) packet.Addr6 {
	src, prefix := *v.IP4().Src(), &w.conf.prefixes[pref]
	mapped := prefix.Embed(src)
	switch {
	case w.conf.LiteralReporter, w.conf.bypassed(&mapped), src[0] == 169 && src[1] == 254, // link-local (RFC 3927 section 7)
		prefix.IsWellKnown() && !w.conf.unicast4(src),
		w.conf.refuses[pref] && !pool6.Global4(src):
		return peer
	}
	return mapped
}
