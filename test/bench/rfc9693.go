package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The measurements of RFC 9693, with shorter trials and a permitted loss of 0.1 %, because the ends are programs on
// the same machine. They need to empty the gateway's table, so only nat64d is measured.

// newConnections is the number of connections in a trial of the connection establishment rate: as many bindings as
// one address can have.
const newConnections = 50_000

// rfc9693 are the measurements, in the order of the RFC. Each leaves a table that the next one can use.
var rfc9693 = []workload{
	{"rfc9693 capacity and tear-down", without, capacity},
	{"kill and start", without, restart},
	{"rfc9693 connection rate", without, establishment},
	{"rfc9693 throughput, loss, latency", without, bothWays},
}

// capacity fills the table (RFC 9693 section 4.9) and empties it (section 4.8).
func capacity(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	idle := s.daemon.resident()
	for range 2 { // offer again what the first round has lost
		length := time.Duration(s.Sessions) * time.Second / fillRate
		if _, _, err := s.up(ctx, s.order(s.Sessions, fillRate, length+settle)); err != nil {
			return err
		}
	}
	full := s.daemon.resident()
	start := time.Now()
	ended, err := s.empty(ctx)
	if err != nil {
		return err
	}
	took := time.Since(start)
	s.put("rfc9693 idle RSS MB", float64(idle)/(1<<20))
	s.put(fmt.Sprintf("rfc9693 table capacity: sessions of %dk", s.Sessions/1000), float64(ended))
	s.put("rfc9693 table capacity: RSS bytes/session", float64(full-idle)/float64(max(1, ended)))
	s.put("rfc9693 tear-down rate, k sessions/s", float64(ended)/took.Seconds()/1000)
	return nil
}

// restart kills nat64d while packets flow and starts it again: how many of 10,000 packets a second are lost, with few
// sessions and with many. Unlike in other measurements, nat64d may use all processors, as it does when it starts.
func restart(ctx context.Context, s *stint) error {
	defer func(cpu int) { s.gateway.cpu = cpu }(s.gateway.cpu)
	s.gateway.cpu = anyCPU
	for _, n := range []int{fewFlows, 100_000, s.Sessions} {
		length := time.Duration(n)*time.Second/fillRate + settle
		if _, _, err := s.up(ctx, s.order(n, fillRate, length)); err != nil {
			return err
		}
		const rate = 10_000
		before, err := s.count(ctx, s.server)
		if err != nil {
			return err
		}
		o := s.order(fewFlows, rate, 3*time.Second)
		sent := concurrently(func() (floodResult, error) { return s.flood(ctx, o) })
		time.Sleep(time.Second)
		_ = s.daemon.cmd.Process.Kill()
		<-s.daemon.ended
		if err := errors.Join(s.launch(ctx), s.ready(ctx)); err != nil {
			return err
		}
		r := <-sent
		if r.err != nil {
			return r.err
		}
		time.Sleep(settle)
		after, err := s.count(ctx, s.server)
		if err != nil {
			return err
		}
		lost := r.result.Sent - r.result.packets(after-before)
		s.put(fmt.Sprintf("kill and start with %dk sessions: gap ms", n/1000), float64(lost)*1000/rate)
		if _, err := s.empty(ctx); err != nil {
			return err
		}
	}
	return nil
}

// establishment searches the highest rate at which the first packets of new connections pass (RFC 9693 section 4.5).
func establishment(ctx context.Context, s *stint) error {
	most, err := s.flood(ctx, s.order(fewFlows, 0, offeredLength))
	if err != nil {
		return err
	}
	best, err := search(setUpRate, most.perSecond(), s.Probes+2, func(rate float64) (trial, error) {
		if _, err := s.empty(ctx); err != nil {
			return trial{}, err
		}
		length := time.Duration(newConnections / rate * float64(time.Second))
		r, received, err := s.up(ctx, s.order(newConnections, int(rate), length))
		return trial{r.perSecond(), 1 - float64(received)/float64(max(1, r.Sent))}, err
	})
	s.put("rfc9693 connection establishment, k/s", best/1000)
	return err
}

// bothWays measures throughput, loss and latency with packets in both directions (RFC 9693 section 4.6).
func bothWays(ctx context.Context, s *stint) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	try := func(rate float64) (trial, error) { return s.exchange(ctx, rate, nil) }
	most, err := try(4 * setUpRate)
	if err != nil {
		return err
	}
	best, err := search(most.offered*(1-most.lost), most.offered, s.Probes, try)
	if err != nil {
		return err
	}
	s.put("rfc9693 throughput, both ways kpps", best/1000)
	if best == 0 {
		return errors.New("found no rate without loss, which the measurement of loss and latency needs")
	}
	twice, err := try(2 * best)
	if err != nil {
		return err
	}
	s.put("rfc9693 loss at twice that, %", 100*max(0, twice.lost))
	var r roundTripResult
	_, err = s.exchange(ctx, best/2, func() (err error) {
		r, err = call[roundTripResult](ctx, s.client, toolRoundTrip, roundTripOrder{s.destination, s.RoundTrips, s.UDP / 2, 0})
		return err
	})
	if err != nil {
		return err
	}
	s.put("rfc9693 latency at half of it, p50 us", micro(r.Median))
	s.put("rfc9693 latency at half of it, p99 us", micro(r.P99))
	return nil
}

// exchange sends half of a rate in each direction, and calls during concurrently if it is not nil.
func (s *stint) exchange(ctx context.Context, rate float64, during func() error) (trial, error) {
	half := int(rate / 2)
	var up floodResult
	var arrivedUp int
	down, arrivedDown, err := s.down(ctx, half, s.UDP, func() (err error) {
		done := make(chan error, 1)
		go func() {
			var err error
			up, arrivedUp, err = s.up(ctx, s.order(fewFlows, half, s.UDP))
			done <- err
		}()
		if during != nil {
			err = during()
		}
		return errors.Join(err, <-done)
	})
	lost := 1 - float64(arrivedUp+arrivedDown)/float64(max(1, up.Sent+down.Sent))
	return trial{up.perSecond() + down.perSecond(), lost}, err
}
