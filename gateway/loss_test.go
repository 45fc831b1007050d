package gateway

import (
	"strings"
	"testing"
	"time"

	"nat64d/ops/metrics"
	"nat64d/packet"
)

// TestRingLossIsLoggedOnceAnHour has each ten seconds lose one in fifty packets, except for those that lose just one in a
// hundred.
func TestRingLossIsLoggedOnceAnHour(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		advice string
		each   uint64 // loss per 1000 packets in 10 s
		want   int
	}{{"switch it on", 20, 2}, {"switch it on", 10, 0}, {"", 20, 0}} {
		g, log := watched(t, func(o *Options) { o.RingAdvice = c.advice })
		var l loss
		for second := range 5000 {
			w := g.workers[packet.V6].count
			w.Forwarded(metrics.From6To4, 0, 100-c.each/10, 1)
			w.RingDrops(uint64(second+1) * c.each / 10)
			l.check(g, time.Duration(second+1)*time.Second)
		}
		if n := strings.Count(log.String(), "\n"); n != c.want {
			t.Errorf("%d in 1000 lost, advice %q: the log says %d times, want %d\n%s", c.each, c.advice, n, c.want, log)
		}
		if c.want > 0 && !strings.Contains(log.String(), "lost=20 of=1000 within=10s") {
			t.Errorf("the log says %s", log)
		}
	}
}
