package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/egress"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

// The first worker of the IPv6 side sends the pings, as if they had arrived there.
func (w *worker) hasPings() bool {
	return w.i == 0 && w.side == packet.V6 && w.g.pings.mail.any.Load()
}

func (w *worker) sendPings() {
	w.swept.pings = w.g.pings.mail.take(w.swept.pings)
	for i := range w.swept.pings {
		e := &w.swept.pings[i]
		if !w.g.pings.waits(e.sequence) {
			continue
		}
		if r := w.sendPing(e); r != drop.None {
			w.g.pings.answered(e.sequence, Pong{Dropped: r})
		}
	}
}

// sendPing takes an echo request through RFC 6146 section 3, except for the checks of its source, which is no client's. If the link
// address of the next hop is unknown, the request is sent again in the next batch.
func (w *worker) sendPing(e *ping) drop.Reason {
	if w.paused {
		return drop.Paused
	}
	pref := w.conf.number(0)
	p := newInflight(packet.Frame{Data: e.packet(w.g.pings.client, w.conf.prefixes[pref].Embed(e.to))})
	v := &p.view
	if r := v.Parse6(p.frame.Data); r != drop.None {
		return r
	}
	if r := v.Headers6(); r != drop.None {
		return r
	}
	if r := w.far(&p, e.to, pref); r != drop.None {
		return r
	}
	dst := packet.Endpoint4{Addr: e.to, Port: v.DstPort}
	flow := session.Flow{Remote: dst, Proto: v.Proto, Prefix: pref}
	flow.Client.Addr, flow.Client.Port = w.g.pings.client, v.SrcPort
	if w.conf.deniesPort(v.Proto, dst) {
		return drop.Denied4
	}
	if r := w.state6(&p, &flow); r != drop.None {
		return r
	}
	o := w.out.Next4()
	t := packet.Tuple4{Src: flow.Mapped, Dst: dst}
	if r := w.conf.Xlat.To4(o, v, p.frame.Offload, &t, w.out.ID(&t, v.Proto, p.frame.Offload)); r != drop.None {
		return r
	}
	if w.turns(v.Proto, &t) {
		return drop.HostAddress
	}
	f := w.out.Leaving4(o)
	hop, pending, r := w.out.Hop4(f)
	if pending || r == drop.Neighbour {
		w.g.routes.Resolve4(*f, w.client(w.g.pings.client))
	}
	switch {
	case pending:
		w.g.pings.mail.put(*e)
		return drop.None
	case r != drop.None:
		return r
	}
	w.count.ArrivedMore(1)
	w.left++
	_, r = w.out.Send4(&egress.Packet{Out: o, From: v, Hop: hop, Direction: metrics.From6To4})
	return r
}

// packet returns the request as an IPv6 packet.
func (e *ping) packet(client, peer packet.Addr6) []byte {
	length := e.size - packet.IPv4Len
	b := make([]byte, packet.IPv6Len+length)
	packet.IPv6(b).Put(0, length, packet.NumICMPv6, probeHops, &client, &peer)
	m := b[packet.IPv6Len:]
	m[0] = packet.EchoRequest6
	binary.BigEndian.PutUint16(m[4:], e.identifier)
	binary.BigEndian.PutUint16(m[6:], e.sequence)
	binary.BigEndian.PutUint64(m[packet.ICMPLen:], e.cookie)
	binary.BigEndian.PutUint16(m[2:], packet.PseudoHeader(b, length).Bytes(m).Checksum())
	return b
}
