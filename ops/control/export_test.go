package control

import (
	"context"
	"net"
	"net/http"
	"time"
)

// ServeWithin is Serve with limits of time that a test can wait for.
func ServeWithin(ctx context.Context, l net.Listener, h http.Handler, d time.Duration) error {
	brief := usualLimits
	brief.request, brief.idle, brief.write, brief.listing = d, d, d, 5*d
	return serve(ctx, l, h, brief)
}

// MaxConns is how many connections Serve keeps.
var MaxConns = usualLimits.conns

// Victim returns which of connections has to make way, given the processes at their other ends and whether a request of
// them is being answered.
func Victim(pids []int, active []bool) int {
	conns := make([]*conn, len(pids))
	for i, pid := range pids {
		conns[i] = &conn{pid: pid}
		conns[i].active.Store(active[i])
	}
	v := victim(conns)
	for i, c := range conns {
		if c == v {
			return i
		}
	}
	return -1
}
