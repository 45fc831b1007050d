package gateway

import (
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
	"nat64d/session"
)

// tracer makes the Verdict of the packet that a worker processes, for the taps of that worker. A worker without a tap has none, so
// that a packet costs it a few comparisons. A packet that no filter can select is not followed once its flow is known. The
// tracer belongs to the worker.
type tracer struct {
	v         Verdict
	second    session.Outcome // of the second half of a hairpin
	taps      []tapped
	snap      int  // bytes of each packet that the taps need at most
	forwarded bool // a tap wants packets that are forwarded
	on        bool // the packet is followed
	parked    bool // the packet waits for a link address
	answering bool // what departs is an answer to the packet
	arrived   packet.Frame
	staged    []byte // the packets that have departed, in the form of put
}

// tapped is the part of a Tap that belongs to a worker.
type tapped struct {
	match *matcher
	ring  *ring
	snap  int
	wake  chan struct{}
	some  bool // verdicts of the batch are in the ring
}

// stagedRoom is the room for the packets that leave for one packet: a datagram of 64 KiB in small pieces.
const stagedRoom = 160 << 10

// newTracer returns a tracer for the taps of a worker, or one without, whose Verdict its owner reads.
func newTracer(taps []tapped) *tracer {
	t := &tracer{taps: taps}
	for i := range taps {
		t.snap = max(t.snap, taps[i].snap)
		t.forwarded = t.forwarded || taps[i].match.anyReason && !taps[i].match.drops
	}
	if t.snap > 0 {
		t.staged = make([]byte, 0, stagedRoom)
	}
	return t
}

// begin begins a packet. Nothing is left of the one before: forget clears what is not always overwritten.
func (t *tracer) begin(p *inflight) {
	t.on = true
	if t.snap > 0 {
		t.arrived = p.frame
	}
}

// forget clears the packet.
func (t *tracer) forget() {
	v := &t.v
	v.Passed, v.Pieces, v.Silence, v.AnswerRest = 0, 0, NotSilent, 0
	v.Out.Length, v.Answer.Length = 0, 0
	t.on, t.parked, t.answering, t.staged = false, false, false, t.staged[:0]
}

// outcome returns where the tables store what the packet has done.
func (t *tracer) outcome(p *inflight) *session.Outcome {
	if p.hairpin {
		return &t.second
	}
	return &t.v.State
}

// looked records the result of the tables for the packet. It stops following the packet if no tap can want it.
func (w *worker) looked(p *inflight, f *session.Flow) {
	t := w.tap
	if p.hairpin {
		t.v.Turned = *f
		t.v.Passed |= Hairpins
		return
	}
	if !t.wants(f) {
		w.tap, t.on = nil, false
		return
	}
	t.v.Flow = *f
	t.v.Passed |= InPrefix | Looked
}

// tapTurned follows a packet of a flow that hairpins again, even if no tap can want its first half: the second half has another client.
func (w *worker) tapTurned(p *inflight, f *session.Flow) {
	if w.tracer == nil || w.tap != nil {
		return
	}
	w.tap = w.tracer
	w.tap.begin(p)
	if w.tap.snap > 0 {
		w.tap.arrived = p.arrived
	}
	w.tap.v.Flow = *f
	w.tap.v.Passed |= InPrefix | Looked
}

// quoted records the flow that an ICMP error is about.
func (w *worker) quoted(p *inflight, f *session.Flow, r drop.Reason) {
	if w.tap == nil {
		return
	}
	w.looked(p, f)
	if t := w.tap; t != nil && !p.hairpin {
		t.v.State = session.Outcome{Bound: r != drop.ICMPErrorUnbound}
	}
}

// wants reports whether a tap may want a packet of a flow.
func (t *tracer) wants(f *session.Flow) bool {
	if len(t.taps) == 0 {
		return true
	}
	for i := range t.taps {
		if t.taps[i].match.flow(f) {
			return true
		}
	}
	return false
}

// leaves records the next hop, before the packet is sent.
func (t *tracer) leaves(h *packet.Hop) {
	t.v.Hop, t.answering = *h, false
	t.v.Passed |= Found
}

// answers records that what departs next answers the packet.
func (t *tracer) answers(rest uint32) {
	t.answering, t.v.AnswerRest = true, rest
}

// silent records why no ICMP error is sent.
func (w *worker) silent(why Silence) {
	if w.tap != nil {
		w.tap.v.Silence = why
	}
}

// Departs implements egress.Watcher.
func (t *tracer) Departs(f packet.Family, head, payload []byte, off packet.Offload) {
	if !t.on || !t.answering && !t.forwarded && len(t.taps) > 0 {
		return
	}
	h := &t.v.Out
	if t.answering {
		h = &t.v.Answer
	} else {
		t.v.Pieces++
	}
	if h.Length == 0 {
		h.read(head, len(head)+len(payload), &off)
	}
	if t.snap > 0 {
		p := Packet{Out: true, Family: f, Answer: t.answering, Length: len(head) + len(payload)}
		p.partial(&off)
		t.stage(&p, head, payload)
	}
}

// stage keeps the beginning of a packet that departs.
func (t *tracer) stage(p *Packet, head, payload []byte) {
	n := recordLen + min(t.snap, p.Length)
	at := len(t.staged)
	if at+n > cap(t.staged) {
		return
	}
	t.staged = t.staged[:at+n]
	p.put(t.staged[at:], t.snap, head, payload)
}

// partial stores where a checksum is missing.
func (p *Packet) partial(off *packet.Offload) {
	if off.Checksum == packet.ChecksumPartial {
		p.Start, p.Offset = off.CsumStart, off.CsumOffset
	}
}

// end ends a packet.
func (t *tracer) end(w *worker, p *inflight, r drop.Reason) {
	if p.left && !t.forwarded && len(t.taps) > 0 { // most packets, which a trace of drops does not want
		t.v.Passed, t.on = 0, false
		return
	}
	v := &t.v
	v.At, v.Side, v.Reason, v.Waited, v.Frames = w.now, w.side, r, p.until != 0, uint16(p.frames())
	v.Fate = t.fate(p, r)
	if t.wantsFate() {
		t.complete(w, p)
	}
	if len(t.taps) > 0 {
		t.forget()
	}
}

// lost records frames that are dropped after their packet was processed, whose headers are not kept.
func (w *worker) lost(r drop.Reason, frames int) {
	if w.tracer == nil || frames == 0 {
		return
	}
	v := Verdict{At: w.now, Side: w.side, Fate: Dropped, Reason: r, Frames: uint16(min(frames, 0xffff))} // that of the tracer may be in use
	for i := range w.tracer.taps {
		to := &w.tracer.taps[i]
		if !to.match.verdict(&v) {
			continue
		}
		if _, ok := to.ring.push(&v, 0); ok {
			to.ring.publish()
			to.some = true
		}
	}
}

// complete fills in the rest of the Verdict, and gives it to the taps that want it.
func (t *tracer) complete(w *worker, p *inflight) {
	v := &t.v
	v.In.read(p.arrived.Data, ipLength(p.arrived.Data), &p.arrived.Offload)
	if !v.Passed.Has(Looked) {
		t.guess(w.conf.prefixes)
	}
	v.Prefix = w.conf.prefixes[w.conf.number(v.Flow.Prefix)]
	for i := range t.taps {
		if t.taps[i].match.verdict(v) {
			t.give(&t.taps[i])
		}
	}
}

// wantsFate reports whether a tap may want a packet with the fate of v.
func (t *tracer) wantsFate() bool {
	for i := range t.taps {
		if t.taps[i].match.fate(&t.v) {
			return true
		}
	}
	return len(t.taps) == 0
}

func (t *tracer) fate(p *inflight, r drop.Reason) Fate {
	switch {
	case r == drop.StoredSYN:
		return StoredSYN
	case r.Host():
		return LeftToHost
	case r != drop.None:
		return Dropped
	case p.left:
		return Forwarded
	case t.parked:
		return WaitsForHop
	}
	return WaitsForPiece
}

// guess sets the flow of a packet that has not got to the tables, as far as its headers contain it.
func (t *tracer) guess(prefixes []pool6.Prefix) {
	v, in := &t.v, &t.v.In
	v.State = session.Outcome{}
	f := session.Flow{}
	f.Proto, _ = proto(in.Number)
	switch n, ok := pool6.Match(prefixes, &in.Dst.Addr); {
	case in.Family == packet.V4:
		f.Mapped = packet.Endpoint4{Addr: [4]byte(in.Dst.Addr[12:]), Port: in.Dst.Port | in.ID}
		f.Remote = packet.Endpoint4{Addr: [4]byte(in.Src.Addr[12:]), Port: in.Src.Port}
	case ok:
		f.Prefix = uint8(n)
		f.Remote = packet.Endpoint4{Addr: prefixes[n].Extract(&in.Dst.Addr), Port: in.Dst.Port}
		v.Passed |= InPrefix
		fallthrough
	default:
		f.Client = packet.Endpoint6{Addr: in.Src.Addr, Port: in.Src.Port | in.ID}
	}
	v.Flow = f
}

// give puts the Verdict, and what its Tap needs of the packets, into a ring.
func (t *tracer) give(to *tapped) {
	room := 0
	if to.snap > 0 {
		room = t.room(to.snap)
	}
	b, ok := to.ring.push(&t.v, room)
	if !ok {
		return
	}
	if room > 0 {
		t.fill(b, to.snap)
	}
	to.ring.publish()
	to.some = true
}

// room returns how many bytes fill needs.
func (t *tracer) room(snap int) (n int) {
	if !t.v.Waited {
		n = recordLen + min(snap, ipLength(t.arrived.Data))
	}
	var p Packet
	for rest := t.staged; len(rest) > 0; {
		rest = p.next(rest)
		n += recordLen + min(snap, len(p.Data))
	}
	return n
}

// fill writes the packet as it arrived, unless it has waited and was captured then, and what left for it.
func (t *tracer) fill(b []byte, snap int) {
	var p Packet
	if !t.v.Waited {
		p = Packet{Family: t.v.Side, Length: ipLength(t.arrived.Data)}
		p.partial(&t.arrived.Offload)
		b = p.put(b, snap, t.arrived.Data[:p.Length], nil)
	}
	for rest := t.staged; len(rest) > 0; {
		rest = p.next(rest)
		b = p.put(b, snap, p.Data, nil)
	}
}

// flush wakes the readers of the taps for which the batch had verdicts.
func (t *tracer) flush() {
	for i := range t.taps {
		if !t.taps[i].some {
			continue
		}
		t.taps[i].some = false
		select {
		case t.taps[i].wake <- struct{}{}:
		default: // it is awake
		}
	}
}
