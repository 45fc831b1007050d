package control

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// limits bound the resources of the daemon that clients of the socket can hold.
type limits struct {
	conns   int           // open connections
	request time.Duration // until a request is received
	idle    time.Duration // between two requests of a connection
	write   time.Duration // until the client reads one write of at most 64 KiB
	listing time.Duration // until the client has read a whole listing
}

var usualLimits = limits{conns: 64, request: 10 * time.Second, idle: 10 * time.Second, write: time.Minute, listing: 10 * time.Minute}

// limited is a listener with a maximum number of open connections. When another one arrives, it closes a connection
// of the process that has most of them. A process that floods the socket thus loses its own connections, and nat64ctl
// still works.
type limited struct {
	net.Listener
	limits limits
	gate   *gate // nil: clients may do everything

	mu    sync.Mutex
	conns []*conn // in order of arrival
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	of     *limited
	peer   peer
	active atomic.Bool // a request is being read or answered
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, of: l, peer: peerOf(accepted)}
	c.peer.gate = l.gate
	if v := l.add(c); v != nil {
		v.Close()
	}
	return c, nil
}

// add adds a connection and returns the one to close, if any.
func (l *limited) add(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	if len(l.conns) <= l.limits.conns {
		return nil
	}
	return victim(l.conns)
}

// victim returns the oldest connection of the process that has most of them. It prefers an idle one, and never
// returns the newest of all.
func victim(conns []*conn) *conn {
	count := make(map[int]int)
	for _, c := range conns {
		count[c.peer.pid]++
	}
	var v *conn
	for _, c := range conns[:len(conns)-1] {
		if v == nil || count[c.peer.pid] > count[v.peer.pid] || count[c.peer.pid] == count[v.peer.pid] && v.active.Load() && !c.active.Load() {
			v = c
		}
	}
	return v
}

// state records whether the http.Server is handling a request on a connection.
func (l *limited) state(c net.Conn, s http.ConnState) {
	c.(*conn).active.Store(s == http.StateActive)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.conns = slices.DeleteFunc(c.of.conns, func(o *conn) bool { return o == c })
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// Write implements net.Conn. It fails if the client does not read within the limit.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.of.limits.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
