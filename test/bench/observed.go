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
	halfLoad       = 150_000 // packets a second, about half of what a slow processor carries
)

// observed are the measurements of what it costs the packets to watch nat64d.
var observed = []workload{
	{"metrics scraped", without, scraped},
	{"accounting", without, accounted},
	{"trace without matches", without, tracedNothing},
	{"tables listed", without, listed},
}

// scraped measures the overload rate while the metrics are scraped every second.
func scraped(ctx context.Context, s *stint) error {
	const address = "127.0.0.1:9464"
	if _, err := s.control().SetConfig(ctx, control.ConfigChange{Key: "metrics.listen", Value: address}); err != nil {
		return err
	}
	client := http.Client{Timeout: time.Second, Transport: s.dialer(address)}
	defer client.CloseIdleConnections()
	return s.whileObserved(ctx, "metrics scraped every second", 0, func(ctx context.Context) error {
		return everySecond(ctx, func() error { return fetch(ctx, &client, "http://"+address+"/metrics") })
	})
}

// dialer connects to an address of the gateway.
func (s *stint) dialer(address string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return s.lab.Gateway.Dial(ctx, network, address)
	}}
}

// everySecond calls f until ctx is done.
func everySecond(ctx context.Context, f func() error) error {
	for tick := time.NewTicker(scrapeEvery); ; {
		if err := f(); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the flood is over
		case <-tick.C:
		}
	}
}

// fetch reads a page to its end.
func fetch(ctx context.Context, c *http.Client, url string) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r, err := c.Do(q)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: status %s", url, r.Status)
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// listed measures the rates with a million sessions, while programs read the tables as nat64ctl and the page do.
func listed(ctx context.Context, s *stint) error {
	length := time.Duration(s.Sessions)*time.Second/fillRate + settle
	if _, _, err := s.up(ctx, s.order(s.Sessions, fillRate, length)); err != nil {
		return err
	}
	const address = "127.0.0.1:8464"
	c := s.control()
	if _, err := c.SetConfig(ctx, control.ConfigChange{Key: "web.listen", Value: address}); err != nil {
		return err
	}
	page := http.Client{Transport: s.dialer(address)}
	defer page.CloseIdleConnections()
	for _, o := range []struct {
		name    string
		observe func(context.Context) error
	}{
		{"session list --count every second", func(ctx context.Context) error {
			return everySecond(ctx, func() error { _, err := c.CountSessions(ctx, control.Filter{}); return err })
		}},
		{"session list -o csv, over and over", func(ctx context.Context) (err error) {
			for err == nil {
				cmd := s.nat64ctl.command(ctx, "--socket", s.socket(), "session", "list", "-o", "csv")
				if err = s.gateway.launch(cmd); err == nil {
					err = cmd.Wait()
				}
			}
			return ifNotOver(ctx, err)
		}},
		{"top", func(ctx context.Context) error {
			return everySecond(ctx, func() error {
				_, status := c.Status(ctx)
				_, stats := c.Stats(ctx)
				_, usage := c.Pool4Usage(ctx, 0)
				_, clients := c.Clients(ctx, control.ClientQuery{By: "ports", Limit: 20})
				return errors.Join(status, stats, usage, clients)
			})
		}},
		{"the status page", func(ctx context.Context) error {
			return ifNotOver(ctx, fetch(ctx, &page, "http://"+address+"/v1/events"))
		}},
	} {
		row := fmt.Sprintf("%dk sessions, %s", s.Sessions/1000, o.name)
		for _, rate := range []int{0, halfLoad} {
			if err := s.whileObserved(ctx, row, rate, o.observe); err != nil {
				return err
			}
		}
	}
	_, err := s.empty(ctx)
	return err
}

// ifNotOver returns an error unless it is due to the end of the flood.
func ifNotOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// whileObserved reports the rate of delivered packets of a flood, alternately without an observer and with one, which runs until its
// context is done, and the ratio of the two. rate 0 is an overload.
func (s *stint) whileObserved(ctx context.Context, name string, rate int, observe func(context.Context) error) error {
	if rate > 0 {
		name += fmt.Sprintf(", %d kpps offered", rate/1000)
	}
	if err := s.steerEnds(ctx, false); err != nil {
		return err
	}
	if _, _, err := s.up(ctx, s.order(fewFlows, gentleRate, opening)); err != nil {
		return err
	}
	var alone, watched, ratios []float64
	for range observedPairs {
		a, err := s.rate(ctx, rate)
		if err != nil {
			return err
		}
		during, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- observe(during) }()
		b, err := s.rate(ctx, rate)
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

// rate returns the packets per second of a flood that are delivered.
func (s *stint) rate(ctx context.Context, offered int) (float64, error) {
	r, received, err := s.up(ctx, s.order(fewFlows, offered, observedLength))
	return float64(received) / max(r.Took.Seconds(), 1e-9), err
}

// accounted measures the overload rate while the traffic of each client is counted (sessions.accounting).
func accounted(ctx context.Context, s *stint) error {
	c := s.control()
	set := func(ctx context.Context, value string) error {
		_, err := c.SetConfig(ctx, control.ConfigChange{Key: "sessions.accounting", Value: value})
		return err
	}
	return s.whileObserved(ctx, "sessions.accounting", 0, func(during context.Context) error {
		if err := set(ctx, "true"); err != nil {
			return err
		}
		<-during.Done()
		return set(ctx, "false")
	})
}
