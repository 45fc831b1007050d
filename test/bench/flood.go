package main

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	floodBatch  = 64
	slowBatch   = 16      // below slowRate: smaller bursts
	slowRate    = 200_000 // packets per second
	sleepAbove  = 200 * time.Microsecond
	sleepFor    = 50 * time.Microsecond
	payload     = 64     // bytes of data in a packet
	firstSource = 2048   // source port of the first flow
	sources     = 60_000 // source ports of a client: they fit the ports of one public address
	sinkPort    = 10_000 // the first destination port; the packets are counted and dropped before they reach a socket
	sinkPorts   = 1000
)

// ports identify a flow between two addresses.
type ports struct{ source, destination uint16 }

// flowPorts returns the ports of the i-th flow. Flows beyond the first 60,000 differ from an earlier one only in the
// destination: for a gateway with endpoint-independent mapping they are new sessions of existing bindings.
func flowPorts(i int) ports {
	return ports{uint16(firstSource + i%sources), uint16(sinkPort + i/sources)}
}

// floodOrder describes a flood.
type floodOrder struct {
	Interface           string
	Gateway             net.HardwareAddr
	Source, Destination netip.Addr
	Flows               int
	Run                 int // consecutive packets of a flow
	Rate                int // packets per second; 0: as many as possible
	Length              time.Duration
	Clients             int  // number of source addresses, starting with Source; 0 means 1
	Mixed               bool // packets of several sizes, each of a random flow
}

// floodResult is what was sent. A packet that the interface refused is not included.
type floodResult struct {
	Sent  int
	Bytes int // of data in these packets
	Took  time.Duration
}

// packets converts bytes of received data to a number of packets, assuming that loss is independent of size.
func (r floodResult) packets(bytes int) int {
	return int(math.Round(float64(bytes) / float64(max(1, r.Bytes)) * float64(r.Sent)))
}

// perSecond returns the rate of sent packets.
func (r floodResult) perSecond() float64 { return float64(r.Sent) / r.Took.Seconds() }

func flood(o floodOrder) (floodResult, error) {
	w, err := openSocketWire(o.Interface)
	if err != nil {
		return floodResult{}, err
	}
	defer w.Close()
	f := newFlooder(w, o, flowPorts)
	for f.step() {
	}
	return f.floodResult, nil
}

// mixedSizes are the payload sizes of mixed packets: seven small, four medium and one large, as in the common IMIX.
var mixedSizes = [...]int{payload, 544, payload, payload, 544, payload, 1432, payload, 544, payload, payload, 544}

// flooder sends to the flows in turn, unless they are mixed. After a refused packet, its flow is next again, so that
// every flow has sent its first packet when the number of sent packets equals the number of flows.
type flooder struct {
	floodOrder
	floodResult

	wire   wire
	at     func(i int) ports
	frames []frame // of a batch
	start  time.Time
}

func newFlooder(w wire, o floodOrder, at func(i int) ports) *flooder {
	batch := floodBatch
	if o.Rate > 0 && o.Rate < slowRate {
		batch = slowBatch
	}
	if o.Mixed {
		batch -= batch % len(mixedSizes) // the same number of each size
	}
	o.Run, o.Clients = max(1, o.Run), max(1, o.Clients)
	f := &flooder{floodOrder: o, wire: w, at: at, frames: make([]frame, batch), start: time.Now()}
	for i := range f.frames {
		f.frames[i] = newFrame(w.address(), o.Gateway, o.Source, o.Destination, f.size(i))
	}
	return f
}

// size returns the size of the data in the i-th packet of a batch.
func (f *flooder) size(i int) int {
	if f.Mixed {
		return mixedSizes[i%len(mixedSizes)]
	}
	return payload
}

// step sends a batch, or waits for a short time if it is not due yet. It reports whether the flood continues.
func (f *flooder) step() bool {
	if f.Rate == 0 || !ahead(f.Sent, f.Rate, f.Took) {
		for i := range f.frames {
			flow := (f.Sent + i) / f.Run % f.Flows
			if f.Mixed {
				flow = rand.IntN(f.Flows)
			}
			f.frames[i].setClient(flow % f.Clients)
			f.frames[i].setPorts(f.at(flow / f.Clients))
		}
		n := f.wire.send(f.frames)
		for i := range n {
			f.Bytes += f.size(i)
		}
		f.Sent += n
	}
	f.Took = time.Since(f.start)
	return f.Took < f.Length
}

// ahead reports whether the next packet is not due yet. If it is due much later, ahead sleeps first.
func ahead(sent, rate int, elapsed time.Duration) bool {
	wait := time.Duration(float64(sent)/float64(rate)*float64(time.Second)) - elapsed
	if wait > sleepAbove {
		t := unix.NsecToTimespec(sleepFor.Nanoseconds())
		_ = unix.Nanosleep(&t, nil) // the runtime's own sleep would need another thread
	}
	return wait > 0
}
