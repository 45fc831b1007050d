package gateway

import (
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/table"
)

// inflight is one packet on its way through the gateway, with all that is known of it. Each run begins with a new value, on the
// stack of the worker, so that a packet never sees what was left of another one.
type inflight struct {
	arrived packet.Frame   // the packet as it arrived, or as it was reassembled; a packet that has to wait is kept in this form
	frame   packet.Frame   // the packet to translate: arrived, or the IPv4 form of a packet that hairpins
	view    packet.View    // the headers of frame
	whole   fragment.Whole // the fragments that it was reassembled from; zero: it arrived whole
	until   time.Duration  // until when it may wait for a next hop; 0: it has not waited yet
	hint    *session.Hint  // where its session probably is; nil: it has not been looked up ahead
	hairpin bool           // it has been translated to IPv4 and is on its way back to IPv6
	again   bool           // frame is new, and has to go through the gateway
	left    bool           // its translation has left
}

// newInflight returns a packet that has just arrived.
func newInflight(f packet.Frame) inflight { return inflight{arrived: f, frame: f} }

// frames returns the number of received frames that the packet is made of.
func (p *inflight) frames() int { return max(p.whole.Fragments, 1) }

// pieces returns the fragments that the packet was reassembled from; nil if its translation need not be split like them: it
// arrived whole, or it is an ICMP error, which is trimmed to what every link carries.
func (p *inflight) pieces() *fragment.Whole {
	if p.whole.Data == nil || p.view.Error {
		return nil
	}
	return &p.whole
}

// direction returns d, or metrics.Hairpin for a packet that hairpins.
func (p *inflight) direction(d metrics.Direction) metrics.Direction {
	if p.hairpin {
		return metrics.Hairpin
	}
	return d
}

// received returns the packet as its sender sent it, without what the link added behind it: of one that hairpins, the IPv6 packet.
func (p *inflight) received() []byte {
	var six packet.View
	if !p.hairpin || six.Parse6(p.arrived.Data) != drop.None {
		return p.view.Data
	}
	return six.Data
}

// batchState holds what is read once for all packets of a batch, and how far the worker is, for the log of a panic.
type batchState struct {
	conf   *conf
	now    time.Duration
	paused bool
	left   uint64 // received frames whose translation has left

	tracer   *tracer   // for the taps; nil: there is none
	tap      *tracer   // tracer while it follows the packet, or nil
	batches  uint      // that had packets
	accounts *accounts // nil: the traffic of clients is not counted

	trial *session.Trial // of the packet of Explain; nil: the worker is not Explain's

	fs       []packet.Frame
	at       int    // in fs
	unparked []byte // a packet that has waited and is processed again, or nil
	rest     int    // frames of that packet and of those that follow it
}

// tables returns the time of the batch for the tables.
func (b *batchState) tables() table.Time { return table.Time(b.now / table.Tick) }
