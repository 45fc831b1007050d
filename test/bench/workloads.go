package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// effort contains the durations and sizes of the measurements.
type effort struct {
	TCP, UDP, Connections time.Duration // of one measurement; iperf3 accepts only whole seconds
	RoundTrips            int
	Probes                int           // number of rates that a search tries
	Flows                 []int         // numbers of UDP flows
	Mixed                 int           // number of flows of the mix; 0: not measured
	Sessions              int           // number of sessions to fill a table with
	SmallPool             time.Duration // lead and window each of a measurement; 0: not measured
}

var (
	thorough = effort{2 * time.Second, time.Second, 2 * time.Second, 1000, 8, []int{1000, 100_000, 1_000_000}, 4000, 1_000_000, 14 * time.Second}
	quick    = effort{time.Second, 400 * time.Millisecond, 500 * time.Millisecond, 300, 4, []int{1000, 100_000}, 0, 120_000, 0}
)

const (
	fewFlows       = 1000
	mixedClients   = 200
	setUpRate      = 250_000 // first packets of new flows per second
	fillRate       = 50_000  // the same where all must be delivered, also on a slow machine
	gentleRate     = 20_000  // for packets that open flows and must not be lost
	costRate       = 100_000
	costWindows    = 3
	costWindow     = 350 * time.Millisecond
	costLead       = 200 * time.Millisecond // until the load is steady
	tenthPercent   = 0.001                  // permitted loss of packets in "no loss"
	runLength      = 16
	connections    = 64
	costNoise      = 0.1                   // permitted use of the processor before the load starts
	settle         = 50 * time.Millisecond // for packets in flight
	pingInterval   = "0.002"
	offeredLength  = 200 * time.Millisecond
	steadyInterval = 2 * time.Millisecond
)

// workload is a measurement.
type workload struct {
	name string // for progress messages
	with func(o offload) bool
	run  func(context.Context, *stint) error
}

func always(offload) bool      { return true }
func without(o offload) bool   { return o == offloadNone }
func onlyOnNIC(o offload) bool { return o == offloadNIC }

// workloads are the measurements for every gateway, in the order of the table.
var workloads = []workload{
	{"correctness", always, correctness},
	{"host noise", without, hostNoise},
	{"round trips", without, latency},
	{"cost of a packet", without, cost},
	{"tcp1 up", always, stream("tcp1 up Mbit/s", "-P1")},
	{"tcp1 down", always, stream("tcp1 down Mbit/s", "-P1", "-R")},
	{"tcp8 up", always, stream("tcp8 up Mbit/s", "-P8")},
	{"tcp8 down", always, stream("tcp8 down Mbit/s", "-P8", "-R")},
	{"udp in runs", onlyOnNIC, inRuns},
	{"tcp connections", without, shortConnections},
	{"udp mix", without, mixed},
	{"udp flows", without, manyFlows}, // pool4 has no ports left after this
	{"udp 4to6", without, downwards},
	{"memory", without, memory},
}

// stint is the measurement of a gateway in a bed.
type stint struct {
	*bed
	effort
	programs
	report func(name string, value float64)
}

// put reports a value under a name with the prefix of the offload setting.
func (s *stint) put(name string, value float64) { s.report(s.offload.prefix()+name, value) }

// order returns a flood from the client.
func (s *stint) order(flows, rate int, length time.Duration) floodOrder {
	return floodOrder{Interface: clientNIC, Gateway: s.mac, Source: s.source, Destination: s.destination,
		Flows: flows, Rate: rate, Length: length}
}

// up floods from the client and returns what was sent and how many packets arrived at the server.
func (s *stint) up(ctx context.Context, o floodOrder) (floodResult, int, error) {
	before, err := s.count(ctx, s.server)
	if err != nil {
		return floodResult{}, 0, err
	}
	r, err := s.flood(ctx, o)
	if err != nil {
		return r, 0, err
	}
	time.Sleep(settle)
	after, err := s.count(ctx, s.server)
	return r, r.packets(after - before), err
}

// hostNoise reports the load by other programs just before the measurements.
func hostNoise(ctx context.Context, s *stint) error {
	share, err := s.noise(ctx)
	s.put(noiseRow, 100*share)
	return err
}

// latency measures round trips without other load.
func latency(ctx context.Context, s *stint) error {
	for _, c := range []struct {
		row      string // followed by the quantile
		interval time.Duration
	}{{"udp rtt ", 0}, {"udp rtt, a request every 2 ms: ", steadyInterval}} {
		r, err := call[roundTripResult](ctx, s.client, toolRoundTrip, roundTripOrder{s.destination, s.RoundTrips, 3 * time.Second, c.interval})
		if err != nil {
			return err
		}
		s.put(c.row+"p50 us", micro(r.Median))
		s.put(c.row+"p99 us", micro(r.P99))
	}
	// ping is the only program that is not pinned: on the gateway's processor it does not need to wake up another
	// processor.
	out, err := s.client.Output(ctx, "ping", "-q", "-c", strconv.Itoa(s.RoundTrips/2), "-i", pingInterval, "-W", "1", s.destination.String())
	if err != nil {
		return err
	}
	// rtt min/avg/max/mdev = 0.006/0.009/0.052/0.003 ms
	_, times, _ := strings.Cut(out, "rtt ")
	if f := strings.Split(times, "/"); len(f) > 4 {
		average, err := strconv.ParseFloat(f[4], 64)
		s.put("ping avg us", 1000*average)
		return err
	}
	return fmt.Errorf("unexpected output of ping: %q", out)
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// cost measures the processor time of the gateway per packet, including soft interrupts: the time that a program of
// idle priority lacks while packets arrive at a moderate rate. The window with the least use counts, because other
// programs can only increase it.
func cost(ctx context.Context, s *stint) error {
	quiet, err := s.busy(ctx, 2)
	if err != nil {
		return err
	}
	if quiet > costNoise {
		return fmt.Errorf("other programs use %.0f %% of processor %d: must be less than %.0f %%", 100*quiet, s.gateway.cpu, 100*costNoise)
	}
	type load struct {
		sent     floodResult
		received int
		err      error
	}
	done := make(chan load, 1)
	start, length := time.Now(), costLead+(costWindows+2)*costWindow
	go func() {
		r, n, err := s.up(ctx, s.order(fewFlows, costRate, length))
		done <- load{r, n, err}
	}()
	time.Sleep(costLead)
	busy, err := s.busy(ctx, costWindows)
	during := time.Since(start) < length
	l := <-done
	if err := errors.Join(err, l.err); err != nil {
		return err
	}
	if !during { // a program of idle priority that is never scheduled would measure the time afterwards
		return fmt.Errorf("%d packets a second use the whole processor, so the cost cannot be measured", costRate)
	}
	if float64(l.received) < 0.9*float64(l.sent.Sent) {
		return fmt.Errorf("of %d packets %d were delivered: must be nearly all", l.sent.Sent, l.received)
	}
	if busy < quiet {
		return errors.New("other programs used more of the gateway's processor before the load than the load did")
	}
	rate := float64(l.received) / l.sent.Took.Seconds()
	s.put(fmt.Sprintf("gw cost ns/packet (at %d kpps)", costRate/1000), (busy-quiet)/rate*1e9)
	return nil
}

// busy returns the minimum share of the gateway's processor used in several windows.
func (s *stint) busy(ctx context.Context, windows int) (least float64, err error) {
	least = 1
	for range windows {
		r, err := call[idleResult](ctx, s.gateway, toolIdle, idleOrder{costWindow})
		if err != nil {
			return 0, err
		}
		least = min(least, r.share())
	}
	return least, nil
}

// stream measures the throughput of TCP with iperf3.
func stream(name string, args ...string) func(context.Context, *stint) error {
	return func(ctx context.Context, s *stint) error {
		if err := s.steerEnds(ctx, true); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, s.TCP+8*time.Second)
		defer cancel()
		args := append([]string{"-J", "-c", s.destination.String(), "-t", strconv.Itoa(int(s.TCP.Seconds()))}, args...)
		out, err := s.client.run(within, s.iperf.command(within, args...))
		if err != nil {
			return err
		}
		var r struct {
			End struct {
				Received struct {
					Rate float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("iperf3: %w", err)
		}
		s.put(name, r.End.Received.Rate/1e6)
		return nil
	}
}

// shortConnections measures how many TCP connections per second can be opened and closed.
func shortConnections(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, true); err != nil {
		return err
	}
	r, err := call[connectResult](ctx, s.client, toolConnect, connectOrder{s.destination, connections, s.Connections})
	if err != nil {
		return err
	}
	s.put("tcp conn/s", float64(r.Done)/s.Connections.Seconds())
	s.put("tcp conn failed", float64(r.Failed))
	return nil
}

// memory reports the memory of the gateway's program after all measurements.
func memory(_ context.Context, s *stint) error {
	if s.daemon != nil {
		s.put("gateway RSS MB at end", float64(s.daemon.resident())/(1<<20))
	}
	return nil
}
