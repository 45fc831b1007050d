package control

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"time"
)

// ServeWithin is Serve with short time limits for tests.
func ServeWithin(ctx context.Context, l net.Listener, h http.Handler, d time.Duration) error {
	brief := usualLimits
	brief.request, brief.idle, brief.write, brief.listing = d, d, d, 5*d
	return serve(ctx, l, h, brief)
}

// MaxConns is the maximum number of connections of Serve.
var MaxConns = usualLimits.conns

// Victim returns the index of the connection to close, given the process of each connection and whether one of its
// requests is being answered.
func Victim(pids []int, active []bool) int {
	conns := make([]*conn, len(pids))
	for i, pid := range pids {
		conns[i] = &conn{owner: owner{pid: pid}}
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

// ParseTrace decodes the query of a trace, and Values encodes one.
func ParseTrace(v url.Values) (TraceFilter, error) { return parseTrace(v) }

func (f *TraceFilter) Values() url.Values { return f.values() }

// SessionWire and BindingWire return a row in the form that encoding/json encodes, and AppendSession encodes one like a listing.
func SessionWire(s Session) any { return sessionWire{flowOf(&s), s.Expires, s.Idle} }

func BindingWire(b Binding) any {
	return bindingWire{b.Protocol, b.Client.Addr(), b.Client.Port(), b.Mapped.Addr(), b.Mapped.Port(), b.Static, b.Sessions}
}

func AppendSession(to []byte, s *Session) []byte { return s.appendJSON(to) }
