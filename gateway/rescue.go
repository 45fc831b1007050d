package gateway

import (
	"fmt"

	"nat64d/drop"
	"nat64d/egress"
	"nat64d/fragment"
)

// rescue keeps the worker running after a panic in a batch. The rest of the batch and the packets that have not left are lost, and
// what the panic may have left half changed is replaced. The function that it is deferred in returns an error if the gateway has
// to stop.
func (w *worker) rescue(err *error) {
	value := recover()
	if value == nil {
		return
	}
	frames := panicking()
	*err = w.g.upkeep.panics.inPath(w.name(), value, frames, w.offending(), w.g.clock())
	w.g.epochs.Leave(w.number())
	w.out.Publish()
	unsent := w.out.Waiting()
	lost := unsent + w.rest + w.reassembler.Waiting()
	w.left -= min(w.left, uint64(unsent)) // they are not forwarded after all; an ICMP error of the gateway counts as one of them
	if w.at < len(w.fs) {
		lost += len(w.fs) - w.at
	}
	w.fs, w.at, w.unparked, w.rest = nil, 0, nil, 0
	w.tracer, w.tap = nil, nil
	w.out, w.reassembler, w.verified = w.newSender(), fragment.New(fragment.Limits{}), verified{}
	if w.conf != nil {
		w.reassembler.SetLimits(w.conf.Fragments)
	}
	if frames.within("gateway.(*worker).park", "gateway.(*worker).ready", "gateway.(*parking)") {
		lost += w.parked.frames
		w.parked = parking{}
	}
	if frames.within("linux/", "gateway.(*link)") {
		w.in.close()
		w.back.close()
	}
	w.count.Dropped(drop.Panic, uint64(lost))
}

// name returns the name of the worker for the log.
func (w *worker) name() string { return fmt.Sprintf("worker %d of side %v", w.i, w.side) }

// offending returns the packet that the worker was processing, or nil.
func (w *worker) offending() []byte {
	switch {
	case w.unparked != nil:
		return w.unparked
	case w.at < len(w.fs):
		return w.fs[w.at].Data
	}
	return nil
}

// newSender returns a sender through the worker's links.
func (w *worker) newSender() *egress.Sender {
	o := egress.Options{Hops: w.hops, Paths: &w.g.paths, Count: w.count, Origin: w.origin(), Worker: w.i, Peers: w.of}
	o.Links[w.side], o.Links[1-w.side] = &w.in.link, &w.back
	return egress.New(o)
}
