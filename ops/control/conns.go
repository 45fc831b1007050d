package control

import (
	"net"
	"net/http"
	"net/netip"
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
	answer  time.Duration // for which a new connection with a request stays open although there are too many
}

var usualLimits = limits{conns: 64, request: 10 * time.Second, idle: 10 * time.Second, write: time.Minute, listing: 10 * time.Minute}

// limited is a listener with a maximum number of open connections. When another one arrives, it closes a connection
// of the owner that has most of them. A process or a host that floods the socket thus loses its own connections, and
// others still get answers.
type limited struct {
	net.Listener
	limits limits
	gate   *gate // nil: clients may do everything

	changed chan struct{} // gets a value when a connection may be closed; nil if limits.answer is 0

	mu    sync.Mutex
	conns []*conn // in order of arrival
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	of     *limited
	peer   peer
	owner  owner
	active atomic.Bool // a request is being read or answered
	began  time.Time
}

// owner is the process at the other end of a connection to a unix socket, or the network at the other end of one over TCP: an
// IPv4 address, or a /64, of which a host can use every address.
type owner struct {
	pid     int
	network netip.Prefix
}

// ownerOf returns the owner of a connection.
func ownerOf(c net.Conn, p peer) owner {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return owner{pid: p.pid}
	}
	addr := a.AddrPort().Addr().Unmap().WithZone("")
	network, _ := addr.Prefix(min(addr.BitLen(), 64)) // the length fits
	return owner{network: network}
}

// Bounded returns a listener that has that many open connections at most, and what to call when the state of one changes
// (http.Server.ConnState). It closes connections as that of Serve does, but gives a new one some time for its request: many short
// requests of one host wait for each other.
func Bounded(l net.Listener, conns int) (net.Listener, func(net.Conn, http.ConnState)) {
	few := &limited{Listener: l, limits: limits{conns: conns, answer: time.Second}, changed: make(chan struct{}, 1)}
	return few, few.state
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, of: l, peer: peerOf(accepted), began: time.Now()}
	c.owner = ownerOf(accepted, c.peer)
	c.peer.gate = l.gate
	c.active.Store(l.limits.answer > 0)
	l.add(c)
	for {
		full, v := l.excess()
		switch {
		case !full:
			return c, nil
		case v != nil:
			v.Close()
			return c, nil
		}
		select {
		case <-l.changed:
		case <-time.After(l.limits.answer / 10):
		}
	}
}

func (l *limited) add(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
}

// excess reports whether too many connections are open, and returns the one to close, or nil if none may be closed yet.
func (l *limited) excess() (full bool, v *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) <= l.limits.conns {
		return false, nil
	}
	v = victim(l.conns)
	if v.active.Load() && time.Since(v.began) < l.limits.answer {
		return true, nil
	}
	return true, v
}

// victim returns the oldest connection of the owner that has most of them. It prefers an idle one, and never
// returns the newest of all.
func victim(conns []*conn) *conn {
	count := make(map[owner]int)
	for _, c := range conns {
		count[c.owner]++
	}
	var v *conn
	for _, c := range conns[:len(conns)-1] {
		if v == nil || count[c.owner] > count[v.owner] || count[c.owner] == count[v.owner] && v.active.Load() && !c.active.Load() {
			v = c
		}
	}
	return v
}

// state records whether the http.Server is handling a request on a connection, or will be if new ones get time for theirs.
func (l *limited) state(c net.Conn, s http.ConnState) {
	c.(*conn).active.Store(s == http.StateActive || s == http.StateNew && l.limits.answer > 0)
	l.wake()
}

// wake has Accept look again for a connection to close.
func (l *limited) wake() {
	select {
	case l.changed <- struct{}{}:
	default: // it will look anyway, or nothing waits
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.conns = slices.DeleteFunc(c.of.conns, func(o *conn) bool { return o == c })
	c.of.mu.Unlock()
	c.of.wake()
	return c.Conn.Close()
}

// Write implements net.Conn. It fails if the client does not read within the limit; without one, the http.Server has its own.
func (c *conn) Write(b []byte) (int, error) {
	if c.of.limits.write == 0 {
		return c.Conn.Write(b)
	}
	if err := c.SetWriteDeadline(time.Now().Add(c.of.limits.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
