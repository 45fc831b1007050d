package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"nat64d/ops/control"
)

// Our own choices: how often a flood is sent without and with an observer, how long each lasts, and the interval of scrapes.
const (
	observedPairs  = 5
	observedLength = 2 * time.Second
	scrapeEvery    = time.Second
)

// observed are the measurements of what it costs the packets to watch nat64d.
var observed = []workload{
	{"metrics scraped", without, scraped},
	{"accounting", without, accounted},
	{"trace without matches", without, tracedNothing},
}

// scraped measures the overload rate while the metrics are scraped every second.
func scraped(ctx context.Context, s *stint) error {
	const address = "127.0.0.1:9464"
	if _, err := s.control().SetConfig(ctx, control.ConfigChange{Key: "metrics.listen", Value: address}); err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.lab.Gateway.Dial(ctx, network, address)
	}}}
	defer client.CloseIdleConnections()
	return s.whileObserved(ctx, "metrics scraped every second", func(ctx context.Context) error {
		for tick := time.NewTicker(scrapeEvery); ; {
			if err := scrape(ctx, &client, "http://"+address+"/metrics"); err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// scrape reads the metrics once.
func scrape(ctx context.Context, c *http.Client, url string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := c.Do(q)
	if err != nil {
		if ctx.Err() != nil {
			return nil // the flood is over
		}
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, r.Status)
	}
	_, err = io.Copy(io.Discard, r.Body)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// whileObserved reports the overload rate, alternately without an observer and with one, which runs until its context is done, and the
// ratio of the two.
func (s *stint) whileObserved(ctx context.Context, name string, observe func(context.Context) error) error {
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	if _, _, err := s.up(ctx, s.order(fewFlows, gentleRate, opening)); err != nil {
		return err
	}
	var alone, watched, ratios []float64
	for range observedPairs {
		a, err := s.rate(ctx)
		if err != nil {
			return err
		}
		during, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- observe(during) }()
		b, err := s.rate(ctx)
		stop()
		if err := errors.Join(err, <-ended); err != nil {
			return err
		}
		alone, watched, ratios = append(alone, a), append(watched, b), append(ratios, b/a)
	}
	for _, row := range []struct {
		name   string
		values []float64
		unit   float64
	}{{": without, kpps", alone, 1e3}, {": with, kpps", watched, 1e3}, {": ratio, %", ratios, 1e-2}} {
		m, _ := median(row.values)
		s.put(name+row.name, m/row.unit)
	}
	return nil
}

// rate returns the packets per second that are delivered in an overload.
func (s *stint) rate(ctx context.Context) (float64, error) {
	r, received, err := s.up(ctx, s.order(fewFlows, 0, observedLength))
	return float64(received) / max(r.Took.Seconds(), 1e-9), err
}

// accounted measures the overload rate while the traffic of each client is counted (sessions.accounting).
func accounted(ctx context.Context, s *stint) error {
	c := s.control()
	set := func(ctx context.Context, value string) error {
		_, err := c.SetConfig(ctx, control.ConfigChange{Key: "sessions.accounting", Value: value})
		return err
	}
	return s.whileObserved(ctx, "sessions.accounting", func(during context.Context) error {
		if err := set(ctx, "true"); err != nil {
			return err
		}
		<-during.Done()
		return set(ctx, "false")
	})
}
