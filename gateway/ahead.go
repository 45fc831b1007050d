package gateway

import (
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/table"
)

// ahead is the memory for looking up a whole batch before its packets are processed one by one, so that cache misses
// overlap. It affects only speed.
type ahead struct {
	flows [batch]session.Flow
	hints [batch]session.Hint
}

// A packet prefetches two cache lines.
const _ = uint(table.MaxLines - 2*batch)

// alone is the number of packets for which prefetching does not pay.
const alone = 2

// lookAhead returns hints for the packets of a batch, valid until its end, or none.
func (w *worker) lookAhead(fs []packet.Frame) []session.Hint {
	a := &w.ahead
	if len(fs) <= alone || len(fs) > batch {
		return nil
	}
	if w.side == packet.V6 {
		for i := range fs {
			w.peek6(fs[i].Data, &a.flows[i])
		}
		w.g.Sessions.Ahead6(a.flows[:len(fs)], a.hints[:])
	} else {
		for i := range fs {
			peek4(fs[i].Data, &a.flows[i])
		}
		w.g.Sessions.Ahead4(a.flows[:len(fs)], a.hints[:])
	}
	return a.hints[:len(fs)]
}

// peek6 and peek4 prefetch the table entries of a packet. They skip packets that need parsing.
func (w *worker) peek6(data []byte, f *session.Flow) {
	p, ok := packet.Peek6(data)
	if !ok {
		*f = session.Flow{}
		return
	}
	h := packet.IPv6(data)
	n, ok := pool6.Match(w.conf.prefixes, h.Dst())
	if !ok {
		*f = session.Flow{}
		return
	}
	f.Proto = p.Proto
	f.Client.Addr, f.Client.Port = *h.Src(), p.Src
	f.Remote.Addr, f.Remote.Port = w.conf.prefixes[n].Extract(h.Dst()), p.Dst
}

func peek4(data []byte, f *session.Flow) {
	p, ok := packet.Peek4(data)
	if !ok {
		*f = session.Flow{}
		return
	}
	h := packet.IPv4(data)
	f.Proto = p.Proto
	f.Mapped.Addr, f.Mapped.Port = *h.Dst(), p.Dst
	f.Remote.Addr, f.Remote.Port = *h.Src(), p.Src
}
