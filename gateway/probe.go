package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

// Our own choices for a probe's headers.
const (
	probeHops   = 64
	probeWindow = 8192
)

// sendProbes sends the waiting TCP probes to their IPv6 clients.
func (w *worker) sendProbes() {
	w.swept.probes = w.g.mail.probes.take(w.swept.probes)
	for i := range w.swept.probes {
		w.sendProbe(&w.swept.probes[i])
	}
}

// sendProbe checks whether the client of an idle connection is alive: a segment without data, sequence and
// acknowledgment numbers 0, only ACK set (RFC 6146 section 3.5.2.2).
func (w *worker) sendProbe(p *session.Probe) {
	src := w.conf.prefixes[w.conf.number(p.Prefix)].Embed(p.Remote.Addr)
	f := w.out.Select6(packet.Selector6{
		Src: src, Dst: p.Client.Addr, SrcPort: p.Remote.Port, DstPort: p.Client.Port, Proto: packet.NumTCP, Origin: packet.FromV4,
	})
	hop, pending, r := w.out.Hop6(f)
	switch {
	case pending: // retried in the next batch, until the neighbour answers or fails
		w.g.routes.Resolve6(*f, w.client(p.Client.Addr))
		w.g.mail.probes.put(*p)
		return
	case r != drop.None:
		return // the session ends after the transitory timeout, as if the client had not answered
	}
	o := w.out.Next6()
	o.Head, o.Payload, o.Offload = o.Head[:packet.Headroom+packet.IPv6Len+packet.TCPLen], nil, packet.Offload{}
	ip := packet.IPv6(o.Head[packet.Headroom:])
	ip.Put(0, packet.TCPLen, packet.NumTCP, probeHops, &src, &p.Client.Addr)
	tcp := ip[packet.IPv6Len:]
	clear(tcp)
	binary.BigEndian.PutUint16(tcp, p.Remote.Port)
	binary.BigEndian.PutUint16(tcp[2:], p.Client.Port)
	tcp[12], tcp[13] = packet.TCPLen/4<<4, packet.FlagACK
	binary.BigEndian.PutUint16(tcp[14:], probeWindow)
	sum := packet.Sum(0).Addr6(&src).Addr6(&p.Client.Addr).Pseudo(packet.TCPLen, packet.NumTCP)
	binary.BigEndian.PutUint16(tcp[packet.TCPChecksum:], sum.Bytes(tcp).Checksum())
	w.count.Happened(metrics.Probe)
	w.out.Post6(o, &hop)
}
