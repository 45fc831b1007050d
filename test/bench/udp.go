package main

import (
	"context"
	"fmt"
	"time"
)

// manyFlows measures floods of increasing numbers of flows, and the maximum rate without loss.
func manyFlows(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	for i, n := range s.Flows {
		name := fmt.Sprintf("udp %dk flows", n/1000)
		if n >= 1_000_000 {
			name = fmt.Sprintf("udp %dM flows", n/1_000_000)
		}
		if err := s.openFlows(ctx, name, n); err != nil {
			return err
		}
		carried, err := s.overload(ctx, name+": overload kpps", s.order(n, 0, s.UDP))
		if err != nil {
			return err
		}
		if i > 0 {
			continue
		}
		if err := inRuns(ctx, s); err != nil {
			return err
		}
		if err := s.withoutLoss(ctx, "udp ", s.order(n, 0, s.UDP), carried); err != nil {
			return err
		}
	}
	return nil
}

// openFlows sends the first packets of n flows at setUpRate.
func (s *stint) openFlows(ctx context.Context, name string, n int) error {
	length := time.Duration(n)*time.Second/setUpRate + 100*time.Millisecond
	r, received, err := s.up(ctx, s.order(n, setUpRate, length))
	if err == nil && n > fewFlows {
		s.put(name+": set-up delivered %", 100*float64(received)/float64(max(1, r.Sent)))
	}
	return err
}

// overload reports the rate of delivered packets while the offered rate exceeds the capacity.
func (s *stint) overload(ctx context.Context, name string, o floodOrder) (float64, error) {
	r, received, err := s.up(ctx, o)
	if err != nil {
		return 0, err
	}
	rate := float64(received) / r.Took.Seconds()
	s.put(name, rate/1000)
	return rate, nil
}

// inRuns measures a flood with several consecutive packets of each flow, as applications send them.
func inRuns(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	if _, _, err := s.up(ctx, s.order(fewFlows, gentleRate, opening)); err != nil {
		return err
	}
	o := s.order(fewFlows, 0, s.UDP)
	o.Run = runLength
	_, err := s.overload(ctx, fmt.Sprintf("udp 1k flows, %d in a row: overload kpps", runLength), o)
	return err
}

// opening is long enough for one packet of each of a few flows at the gentle rate, twice.
const opening = 2 * fewFlows * time.Second / gentleRate

// mixed measures a load that no gateway is optimized for: many clients, whose packets come in random order and in
// several sizes.
func mixed(ctx context.Context, s *stint) error {
	if s.Mixed == 0 {
		return nil
	}
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	o := s.order(s.Mixed, gentleRate, time.Duration(s.Mixed)*time.Second/gentleRate+settle)
	o.Clients = mixedClients
	if _, _, err := s.up(ctx, o); err != nil {
		return err
	}
	o.Mixed, o.Rate, o.Length = true, 0, s.UDP
	carried, err := s.overload(ctx, "udp mix: overload kpps", o)
	if err != nil {
		return err
	}
	return s.withoutLoss(ctx, "udp mix: ", o, carried)
}

// withoutLoss searches the maximum rate of a flood without loss.
func (s *stint) withoutLoss(ctx context.Context, name string, o floodOrder, from float64) error {
	short := o
	short.Length = offeredLength
	offered, err := s.flood(ctx, short)
	if err != nil {
		return err
	}
	s.put(name+"offered in overload kpps", offered.perSecond()/1000)
	best, err := search(from, max(from, offered.perSecond()), s.Probes, func(rate float64) (trial, error) {
		o.Rate = int(rate)
		r, received, err := s.up(ctx, o)
		return trial{r.perSecond(), 1 - float64(received)/float64(max(1, r.Sent))}, err
	})
	s.put(name+"no-loss (<0.1%) kpps", best/1000)
	return err
}

// downwards measures a flood from the server to flows that the client has opened.
func downwards(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	r, received, err := s.down(ctx, 0, s.UDP, nil)
	if err != nil {
		return err
	}
	s.put("udp 4to6 overload kpps", float64(received)/r.Took.Seconds()/1000)
	return nil
}

// down floods from the server after the client has opened a few flows. It returns what was sent and how many packets
// arrived at the client. It calls during during the flood if it is not nil.
func (s *stint) down(ctx context.Context, rate int, length time.Duration, during func() error) (floodResult, int, error) {
	before, err := s.count(ctx, s.client)
	if err != nil {
		return floodResult{}, 0, err
	}
	s.sinks.carry.Store(true)
	done := concurrently(func() (floodResult, error) {
		return s.reflect(ctx, reflectOrder{serverNIC, s.nativeServer, fewFlows, rate, length})
	})
	time.Sleep(listening)
	_, err = s.flood(ctx, s.order(fewFlows, gentleRate, opening))
	s.sinks.carry.Store(false)
	if err == nil && during != nil {
		err = during()
	}
	a := <-done
	if err != nil {
		return a.result, 0, err
	}
	if a.err != nil {
		return a.result, 0, a.err
	}
	time.Sleep(settle)
	after, err := s.count(ctx, s.client)
	return a.result, a.result.packets(after - before), err
}

// listening is the time until a tool is ready for packets.
const listening = 200 * time.Millisecond

// trial is the result of one rate.
type trial struct {
	offered float64 // per second; may be less than requested
	lost    float64 // share of the offered packets
}

// search tries rates between 0 and most and returns the highest one that was offered without loss, or 0. It starts at
// from and stops when the result is known within 5 %.
func search(from, most float64, probes int, try func(rate float64) (trial, error)) (best float64, err error) {
	low, high, rate := 0.0, most, min(from, most)
	for range probes {
		if rate < 1 {
			break
		}
		t, err := try(rate)
		if err != nil {
			return best, err
		}
		if t.lost < tenthPercent {
			best, low = max(best, t.offered), rate
			if t.offered < 0.95*rate {
				break // more cannot be offered
			}
		} else {
			high = rate
		}
		if high-low < 0.05*high {
			break
		}
		if rate = (low + high) / 2; low == 0 {
			rate = 0.7 * high
		}
	}
	return best, nil
}
