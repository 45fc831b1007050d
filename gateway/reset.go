package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/icmp"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// resetHops is the hop limit of a reset, and resetRates are the limits of each worker: our own choices. A reset is not longer
// than the segment that causes it, so that forged sources gain nothing.
const resetHops = 64

var resetRates = icmp.Rates{PerDestination: 100, Total: 10000}

// reset6 answers a TCP segment of an IPv6 client without a session with a reset, if that is configured, and returns
// drop.NoSession. The client then opens a new connection at once. It would otherwise retransmit for up to 15 minutes.
func (w *worker) reset6(p *inflight) drop.Reason {
	v := &p.view
	tcp := packet.Segment(v.Transport())
	if !w.conf.ResetUnknownTCP || v.Proto != packet.TCP || tcp[13]&packet.FlagRST != 0 {
		return drop.NoSession
	}
	src, dst := *v.IP6().Dst(), *v.IP6().Src()
	f := w.out.Select6(packet.Selector6{Src: src, Dst: dst, SrcPort: v.DstPort, DstPort: v.SrcPort, Proto: packet.NumTCP, Origin: packet.FromV4})
	hop, pending, r := w.hop6(p, f)
	switch {
	case pending:
		return w.refuseLater(p, way{side: packet.V6, six: *f}, drop.NoSession)
	case r != drop.None:
		return drop.NoSession
	case !w.limit.resets.Allow(icmp.Other, w.limit.hash(dst[:]), 0, resetRates, w.now):
		w.count.Happened(metrics.ResetLimited)
		return drop.NoSession
	}
	o := w.out.Next6()
	o.Head, o.Payload, o.Offload = o.Head[:packet.Headroom+packet.IPv6Len+packet.TCPLen], nil, packet.Offload{}
	ip := packet.IPv6(o.Head[packet.Headroom:])
	ip.Put(0, packet.TCPLen, packet.NumTCP, resetHops, &src, &dst)
	putReset(ip[packet.IPv6Len:], tcp)
	binary.BigEndian.PutUint16(ip[packet.IPv6Len+packet.TCPChecksum:], packet.PseudoHeader(ip, packet.TCPLen).Bytes(ip[packet.IPv6Len:]).Checksum())
	w.count.Happened(metrics.Reset)
	if w.tap != nil {
		w.tap.answers(0)
	}
	w.out.Post6(o, &hop)
	return drop.NoSession
}

// putReset writes the header of the reset that answers a segment in a state without a connection, without its checksum (RFC 9293
// section 3.10.7.1).
func putReset(b []byte, to packet.Segment) {
	clear(b[:packet.TCPLen])
	copy(b[:2], to[2:4])
	copy(b[2:4], to[:2])
	b[12] = packet.TCPLen / 4 << 4
	if ack, ok := to.Ack(); ok {
		binary.BigEndian.PutUint32(b[4:], ack)
		b[13] = packet.FlagRST
		return
	}
	length := uint32(len(to) - to.HeaderLen())
	if to[13]&packet.FlagFIN != 0 {
		length++
	}
	binary.BigEndian.PutUint32(b[8:], to.Seq()+length)
	b[13] = packet.FlagRST | packet.FlagACK
}
