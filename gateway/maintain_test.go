package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"nat64d/drop"
)

func TestAFullPoolIsLoggedOnceAMinute(t *testing.T) {
	var log bytes.Buffer
	g := stillWith(t, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	var c complaint
	for second := range 150 { // refusals in each of them
		g.workers[V6].count.Dropped(drop.PoolExhausted, 2)
		c.check(g, time.Duration(second+1)*time.Second)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "refused=2") || !strings.Contains(lines[1], "refused=120") {
		t.Errorf("150 seconds of a full pool were logged as\n%s", log.String())
	}
	c.check(g, time.Hour)
	c.check(g, 2*time.Hour)
	if n := strings.Count(log.String(), "\n"); n != 4 {
		t.Errorf("%d lines, want 4: one for the refusals that had not been told, none without any", n)
	}
}
