package gateway

import (
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Our own choices: how often the ring's losses are read, how many packets a batch has at least that is reported as load,
// and the minimum interval of such reports.
const (
	dropsEvery = 100 * time.Millisecond
	loadedFrom = 16
	loadEvery  = 100 * time.Millisecond
)

// Load contains the counters of received packets, which settings of the NICs follow.
type Load struct {
	At       time.Duration // time of the gateway's clock
	Frames   uint64        // received; packets that the NIC or the kernel has coalesced are one
	Packets  uint64        // on the wire, in these frames
	Lost     uint64        // frames that the kernel dropped because a ring was full
	Merged   uint64        // UDP datagrams that arrived coalesced with the one before
	Adjacent uint64        // UDP datagrams that the gateway coalesced with the one before
}

// Load returns the load until now. Losses may be missing that are younger than 100 ms.
func (g *Gateway) Load() Load {
	l := Load{At: g.clock(), Lost: g.Counters.Drops(drop.Ring)}
	l.Frames, l.Packets, l.Merged, l.Adjacent = g.Counters.Received()
	return l
}

// tally counts the frames of a batch, and returns the number of packets on the wire.
func tally(count *metrics.Worker, fs []packet.Frame) (packets int) {
	packets = len(fs)
	merged := 0
	for i := range fs {
		if gso := fs[i].Offload.GSO; gso != packet.GSONone {
			more := fs[i].Packets() - 1
			packets += more
			if gso == packet.GSOUDPL4 {
				merged += more
			}
		}
	}
	count.Arrived(uint64(len(fs)), uint64(packets), uint64(merged))
	return packets
}

// report calls Options.Loaded if the batch is large, at most every loadEvery.
func (w *worker) report(packets int) {
	if packets >= loadedFrom && w.now-w.in.reported >= loadEvery && w.g.hooks.loaded != nil {
		w.in.reported = w.now
		w.g.hooks.loaded()
	}
}
