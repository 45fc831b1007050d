package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

const scaleLen = 3 // length of the window scale option

// state6 and state4 implement filtering and updating (RFC 6146 section 3.5). They read the TCP header again only if
// sequence numbers are checked.
func (w *worker) state6(p *inflight, f *session.Flow) drop.Reason {
	v := &p.view
	q := session.Packet{Event: v.Event, Now: w.tables(), Hint: p.hint}
	if v.Proto == packet.TCP && w.conf.Session.CheckSequence {
		s := segment(v)
		q.Segment = &s
	}
	if w.tracer == nil {
		return w.g.Sessions.From6(f, &q)
	}
	q.Outcome = w.tracer.outcome(p)
	r := w.tables6(f, &q)
	if w.tap != nil {
		w.looked(p, f)
	}
	return r
}

func (w *worker) state4(p *inflight, f *session.Flow) drop.Reason {
	v := &p.view
	q := session.Packet{Event: v.Event, Now: w.tables(), Hint: p.hint}
	if v.Proto == packet.TCP && w.conf.Session.CheckSequence {
		s := segment(v)
		q.Segment = &s
	}
	if w.tracer == nil {
		return w.g.Sessions.From4(f, &q)
	}
	q.Outcome = w.tracer.outcome(p)
	r := w.tables4(f, &q)
	if w.tap != nil {
		w.looked(p, f)
	}
	return r
}

// tables6 and tables4 take a packet that is traced through the tables, or, for Explain, through a trial of them.
func (w *worker) tables6(f *session.Flow, q *session.Packet) drop.Reason {
	if w.trial != nil {
		return w.g.Sessions.Try6(f, q, w.trial)
	}
	return w.g.Sessions.From6(f, q)
}

func (w *worker) tables4(f *session.Flow, q *session.Packet) drop.Reason {
	if w.trial != nil {
		return w.g.Sessions.Try4(f, q, w.trial)
	}
	return w.g.Sessions.From4(f, q)
}

// segment returns the input for the check of sequence numbers.
func segment(v *packet.View) session.Segment {
	h := packet.Segment(v.Transport())
	s := session.Segment{Event: v.Event, Seq: h.Seq(), Len: uint32(len(h) - h.HeaderLen()), Window: h.Window()}
	s.Ack, s.HasAck = h.Ack()
	if v.Event == packet.SYN {
		if at := h.Option(packet.TCPOptionScale, scaleLen); at != 0 {
			s.Scale = h[at+2]
		}
	}
	return s
}
