package gateway

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"nat64d/packet"
	"nat64d/session"
)

// sleeper is a port without packets that records how long it is to wait, and waits only for Wake.
type sleeper struct {
	nowhere
	waits chan time.Duration
	woken chan struct{}
}

func newSleeper() *sleeper {
	return &sleeper{waits: make(chan time.Duration, 16), woken: make(chan struct{}, 1)}
}

func (s *sleeper) Receive(_ []packet.Frame, wait time.Duration) (int, error) {
	s.waits <- wait
	<-s.woken
	return 0, nil
}

func (s *sleeper) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// sleeping returns a gateway whose workers sleep in these ports.
func sleeping(t *testing.T) (g *Gateway, ports [sides]*sleeper) {
	ports = [sides]*sleeper{newSleeper(), newSleeper()}
	return stillWith(t, func(o *Options) {
		o.Open = func(s packet.Family, send bool) (Port, error) {
			if send {
				return &nowhere{}, nil
			}
			return ports[s], nil
		}
	}), ports
}

// A stop does not wait for packets.
func TestStopWakesWorkers(t *testing.T) {
	t.Parallel()
	g, ports := sleeping(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- g.Run(ctx) }()
	for _, p := range ports {
		<-p.waits
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// A worker without a NIC tries to open it when it is woken, and need not wait for the retry.
func TestWakeOpensNIC(t *testing.T) {
	t.Parallel()
	w := stillWith(t, func(*Options) {}).workers[packet.V6]
	w.in.close()
	opened := 0
	w.in.open = func() (Port, error) { opened++; return nil, fs.ErrNotExist }
	w.wake()
	began := time.Now()
	w.reopen(t.Context())
	if d := time.Since(began); opened != 1 || d > retry/2 {
		t.Errorf("opened %d times, and waited %v although woken", opened, d)
	}
}

// A probe that waits for a neighbour is retried soon; without anything to do a worker sleeps longer and longer.
func TestWorkersWaitLongWithoutTraffic(t *testing.T) {
	t.Parallel()
	now := time.Duration(0)
	g := stillWith(t, func(o *Options) { o.Clock = func() time.Duration { return now } })
	w := g.workers[packet.V6]
	for _, c := range []struct{ quiet, want time.Duration }{
		{0, busyWait}, {busyWait / 2, busyWait}, {2 * busyWait, 2 * busyWait}, {time.Hour, idleWait},
	} {
		now = c.quiet
		w.batch(nil)
		if d := w.patience(); d != c.want {
			t.Errorf("%v after the last packet a worker waits %v, want %v", c.quiet, d, c.want)
		}
	}
	g.mail.probes.put(session.Probe{})
	if d, other := w.patience(), g.workers[packet.V4].patience(); d != dueWait || other == dueWait {
		t.Errorf("with a probe to send the workers wait %v and %v", d, other)
	}
}
