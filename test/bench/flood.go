package main

import (
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/ipv4"
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

// ports tell the flows between two addresses apart.
type ports struct{ source, destination uint16 }

// flowPorts returns the ports of the i-th flow. Flows beyond the first 60,000 differ from an earlier one in the destination
// only: to a gateway with endpoint-independent mapping they are new sessions of known bindings.
func flowPorts(i int) ports {
	return ports{uint16(firstSource + i%sources), uint16(sinkPort + i/sources)}
}

// floodOrder says what is sent.
type floodOrder struct {
	Interface           string
	Gateway             net.HardwareAddr
	Source, Destination netip.Addr
	Flows               int
	Run                 int // packets of a flow in a row
	Rate                int // packets per second; 0: as many as possible
	Length              time.Duration
	Clients             int  // addresses that the flows come from, the first of which is Source; 0 is 1
	Mixed               bool // packets of several sizes, each of any flow
}

// floodResult says what was sent. A packet that the interface refused counts as not sent.
type floodResult struct {
	Sent  int
	Bytes int // of data in these packets
	Took  time.Duration
}

// packets returns how many packets of those sent so many bytes of data are, if any are as likely to be lost.
func (r floodResult) packets(bytes int) int {
	return int(math.Round(float64(bytes) / float64(max(1, r.Bytes)) * float64(r.Sent)))
}

// perSecond is the rate of what was sent.
func (r floodResult) perSecond() float64 { return float64(r.Sent) / r.Took.Seconds() }

func flood(o floodOrder) (floodResult, error) {
	w, err := openWire(o.Interface)
	if err != nil {
		return floodResult{}, err
	}
	defer w.Close()
	return w.flood(o, flowPorts), nil
}

// mixedSizes are the bytes of data of mixed packets: seven small ones, four of a medium size and a large one, as in the mix that
// is known as IMIX.
var mixedSizes = [...]int{payload, 544, payload, payload, 544, payload, 1432, payload, 544, payload, payload, 544}

// flood sends to the flows in turn, unless they are to be mixed. A flow whose packet was refused is next again, so that each has had
// its first packet when as many packets have been sent as there are flows.
func (w *wire) flood(o floodOrder, at func(i int) ports) floodResult {
	batch := floodBatch
	if o.Rate > 0 && o.Rate < slowRate {
		batch = slowBatch
	}
	if o.Mixed {
		batch -= batch % len(mixedSizes) // each size has its share
	}
	frames, messages := make([]frame, batch), make([]ipv4.Message, batch)
	size := func(i int) int {
		if o.Mixed {
			return mixedSizes[i%len(mixedSizes)]
		}
		return payload
	}
	for i := range frames {
		frames[i] = newFrame(w.nic.HardwareAddr, o.Gateway, o.Source, o.Destination, size(i))
		messages[i].Buffers = [][]byte{frames[i].bytes}
	}
	run, clients := max(1, o.Run), max(1, o.Clients)
	r, start := floodResult{}, time.Now()
	for r.Took < o.Length {
		if o.Rate == 0 || !ahead(r.Sent, o.Rate, r.Took) {
			for i := range frames {
				flow := (r.Sent + i) / run % o.Flows
				if o.Mixed {
					flow = rand.IntN(o.Flows)
				}
				frames[i].setClient(flow % clients)
				frames[i].setPorts(at(flow / clients))
			}
			n := w.send(messages)
			for i := range n {
				r.Bytes += size(i)
			}
			r.Sent += n
		}
		r.Took = time.Since(start)
	}
	return r
}

// ahead tells that the next packet is not due yet, after a nap if that is far away.
func ahead(sent, rate int, elapsed time.Duration) bool {
	wait := time.Duration(float64(sent)/float64(rate)*float64(time.Second)) - elapsed
	if wait > sleepAbove {
		time.Sleep(sleepFor)
	}
	return wait > 0
}
