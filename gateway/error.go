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

// message is a parsed ICMP error.
type message struct {
	kind       drop.Answer
	rest       uint32
	quote      packet.View
	extensions []byte
}

// read6 parses the ICMPv6 error in v. Its checksum must be correct, because its body is rewritten (RFC 5508 section
// 4).
func (m *message) read6(v *packet.View, off packet.Offload) drop.Reason {
	h := v.IP6()
	sum := packet.Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(len(v.Data)-v.L4, packet.NumICMPv6)
	body, r := m.header(v, off, sum, 4, 8)
	if r != drop.None {
		return r
	}
	return m.quote.Quoted6(body)
}

// read4 parses the ICMP error in v, as read6 does.
func (m *message) read4(v *packet.View, off packet.Offload) drop.Reason {
	body, r := m.header(v, off, 0, 5, 4)
	if r != drop.None {
		return r
	}
	return m.quote.Quoted4(body)
}

// header reads the common 8 bytes of all errors. lengthAt is the offset of the length of the quoted packet, in units
// of unit bytes (RFC 4884).
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

// foreign reports whether the quoted packet is readable and of a transport that is not translated, so that only the
// host can have sent it.
func (m *message) foreign() bool {
	switch m.quote.Number {
	case packet.NumTCP, packet.NumUDP, packet.NumICMP:
		return false
	}
	return m.quote.Data != nil
}

// quoted6 finds the flow of the packet that an ICMPv6 error quotes; the gateway sent it to the client from the prefix
// with number pref.
func (w *worker) quoted6(p *inflight, m *message, pref uint8) (f session.Flow, r drop.Reason) {
	q, ok := m.quote.IP6(), false
	f = session.Flow{Proto: m.quote.Proto, Client: packet.Endpoint6{Addr: *q.Dst(), Port: m.quote.DstPort}, Prefix: pref}
	f.Remote = packet.Endpoint4{Addr: w.conf.prefixes[pref].Extract(q.Src()), Port: m.quote.SrcPort}
	f.Mapped, ok = w.g.Bindings.Lookup6(f.Proto, f.Client)
	switch {
	case !ok:
		return f, drop.ICMPErrorUnbound
	case *q.Src() != *p.view.IP6().Dst(): // the error was not sent to the sender of the quoted packet
		return f, drop.ICMPErrorInner
	}
	return f, drop.None
}

// quoted4 finds the flow of the packet that an ICMPv4 error quotes, as quoted6 does.
func (w *worker) quoted4(p *inflight, m *message) (f session.Flow, r drop.Reason) {
	q := m.quote.IP4()
	f = session.Flow{Proto: m.quote.Proto, Mapped: packet.Endpoint4{Addr: *q.Src(), Port: m.quote.SrcPort}}
	f.Remote = packet.Endpoint4{Addr: *q.Dst(), Port: m.quote.DstPort}
	switch {
	case !w.g.Sessions.Peek4(&f):
		return f, drop.ICMPErrorUnbound
	case *q.Src() != *p.view.IP4().Dst(): // the error was not sent to the sender of the quoted packet
		return f, drop.ICMPErrorInner
	}
	f.Prefix = w.conf.number(f.Prefix)
	return f, drop.None
}

// error6 translates an ICMPv6 error about a packet of f.
func (w *worker) error6(p *inflight, m *message, f *session.Flow) (*packet.Out, drop.Reason) {
	v := &p.view
	answer, rest, ok := icmp.To4(m.kind, m.rest)
	if !ok {
		return nil, drop.ICMPType
	}
	if icmp.IsTooBig6(m.kind) {
		out := w.out.Select4(packet.Selector4{Src: f.Mapped.Addr, Dst: f.Remote.Addr, Proto: packet.NumICMP, Origin: w.origin()})
		rest = icmp.MTU4(m.rest, w.out.MTU6(w.out.Reply6(v)), w.out.MTU4(out), m.quote.Fragmented)
	}
	e := xlat.Error{Answer: answer, Rest: rest, Quote: &m.quote}
	if icmp.Extensible4(answer) && !icmp.IsTooBig6(m.kind) {
		e.Extensions = m.extensions
	}
	o := w.out.Large4()
	quoted := packet.Tuple4{Src: f.Remote, Dst: f.Mapped} // the tuple of the quoted packet as the gateway received it
	id := w.out.ID(&packet.Tuple4{Src: f.Mapped, Dst: f.Remote}, packet.ICMP, packet.Offload{})
	w.conf.Xlat.ErrorTo4(o, v, e, &f.Mapped.Addr, &f.Remote.Addr, quoted, id)
	return o, drop.None
}

// error4 translates an ICMPv4 error about a packet of f, and records a reported path MTU.
func (w *worker) error4(p *inflight, m *message, f *session.Flow) (*packet.Out, drop.Reason) {
	v := &p.view
	answer, rest, ok := icmp.To6(m.kind, m.rest)
	if !ok {
		return nil, drop.ICMPType
	}
	peer := w.conf.prefixes[f.Prefix].Embed(f.Remote.Addr)
	if icmp.IsTooBig4(m.kind) {
		mtu := icmp.Plateau(m.rest&0xffff, m.quote.IP4().TotalLen(), w.conf.Plateaus)
		out := w.out.Select6(packet.Selector6{Src: peer, Dst: f.Client.Addr, Proto: packet.NumICMPv6, Origin: w.origin()})
		rest = icmp.MTU6(mtu, w.out.MTU6(out), w.out.MTU4(w.out.Reply4(v)))
		if f.Slot() != 0 && w.trial == nil { // without a session, anyone could name any destination
			w.g.paths.Learn(f.Remote.Addr, mtu, w.now)
		}
	}
	e := xlat.Error{Answer: answer, Rest: rest, Quote: &m.quote}
	if icmp.Extensible6(answer) {
		e.Extensions = m.extensions
	}
	src := w.reporter(v, f.Prefix, peer)
	o := w.out.Large6()
	quoted := packet.Tuple6{Src: f.Client, Dst: packet.Endpoint6{Addr: peer, Port: f.Remote.Port}}
	w.conf.Xlat.ErrorTo6(o, v, e, &src, &f.Client.Addr, quoted)
	return o, drop.None
}

// reporter returns the source of a translated ICMP error: the router that reports it, so that traceroute shows it,
// or, if the prefix cannot represent its address, the destination of the quoted packet (RFC 6146 section 3.6.2).
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
