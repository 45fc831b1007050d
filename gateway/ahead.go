package gateway

import (
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/table"
)

// ahead is what a worker looks up for a whole batch, before it takes one packet after the other, so that their waits for
// memory overlap. Nothing depends on it but time.
type ahead struct {
	flows [batch]session.Flow
	hints [batch]session.Hint
}

// A packet asks for two lines at a time.
const _ = uint(table.MaxLines - 2*batch)

// alone is how many packets are too few for others to be waited for in the meantime.
const alone = 2

// lookAhead returns the hints for the packets of a batch, which are good until its end, or none.
func (w *worker) lookAhead(fs []packet.Frame) []session.Hint {
	a := &w.ahead
	if len(fs) <= alone || len(fs) > batch {
		return nil
	}
	if w.side == V6 {
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

// peek6 and peek4 note what a packet is about to look for. Of a packet that has to be parsed first they note nothing.
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
