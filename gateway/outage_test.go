package gateway

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// The outage of a NIC is logged once, not by every worker, with each error that prolongs it.
func TestOutageIsLoggedOnce(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	answers := []error{nil, nil, first, first, second, nil, nil} // results of opening the receiving ports
	var said bytes.Buffer
	var mu sync.Mutex // Gateway.Open opens several ports at once
	g := stillWith(t, func(o *Options) {
		o.Workers, o.Log = 2, slog.New(slog.NewTextHandler(&said, nil))
		o.Open = func(s packet.Family, send bool) (Port, error) {
			if send || s == packet.V4 {
				return &nowhere{}, nil
			}
			mu.Lock()
			defer mu.Unlock()
			err := answers[0]
			if answers = answers[1:]; err != nil {
				return nil, err
			}
			return &nowhere{}, nil
		}
	})
	for _, w := range g.workers[:2] {
		w.lose(errors.New("unplugged"))
	}
	for _, w := range g.workers[:2] {
		for !w.reopen(t.Context()) {
		}
	}
	if n := g.Counters.Event(metrics.Reopened); n != 1 {
		t.Errorf("the NIC came back %d times", n)
	}
	for _, words := range []string{"lost the NIC", "error=first", "error=second", "is back"} {
		if n := strings.Count(said.String(), words); n != 1 {
			t.Errorf("%q is said %d times in\n%s", words, n, &said)
		}
	}
}

// stuck is a port that delivers nothing and loses a packet each time its counters are read.
type stuck struct {
	nowhere
	lost   packet.Drops
	closed int
}

func (p *stuck) Drops() packet.Drops {
	if p.closed == 0 {
		p.lost.Room++
		p.lost.Offload += 2
		p.lost.Large += 3
	}
	return p.lost
}

func (p *stuck) Close() error { p.closed++; return nil }

// A port that loses packets is opened again if it delivers none, but not if it delivers some.
func TestStalledPortIsReopened(t *testing.T) {
	t.Parallel()
	var said bytes.Buffer
	var ports []*stuck
	g := stillWith(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&said, nil))
		o.Open = func(s packet.Family, send bool) (Port, error) {
			if send || s == packet.V4 {
				return &nowhere{}, nil
			}
			ports = append(ports, &stuck{})
			return ports[len(ports)-1], nil
		}
	})
	w := g.workers[packet.V6]
	second := func() {
		w.now += time.Second
		w.publish()
	}
	second()
	if len(ports) != 1 || ports[0].closed != 1 || w.in.port != nil {
		t.Fatalf("the port that has stalled was closed %d times, want once", ports[0].closed)
	}
	if !w.reopen(context.Background()) || len(ports) != 2 {
		t.Fatal("it was not opened again")
	}
	for range 3 {
		w.in.received = true
		second()
	}
	if ports[1].closed != 0 {
		t.Error("a port that hands packets over was closed")
	}
	c := g.Counters
	if stalled, reopened := c.Event(metrics.Stalled), c.Event(metrics.Reopened); stalled != 1 || reopened != 1 {
		t.Errorf("%d stalls and %d new openings were counted, want one each", stalled, reopened)
	}
	// The first port was asked twice: the second time when it was closed.
	if room, offload, large := c.Drops(drop.Ring), c.Drops(drop.Offload), c.Drops(drop.Large); room != 2+3 || offload != 2*room || large != 3*room {
		t.Errorf("%d packets lost because the ring was full, %d for their kind and %d for their length; want 5, 10 and 15", room, offload, large)
	}
	if n := strings.Count(said.String(), "opening the port again"); n != 1 {
		t.Errorf("the log says %d times that the port has stalled:\n%s", n, &said)
	}
}
