package control

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// limits bound what the clients of the socket can hold of the daemon.
type limits struct {
	conns   int           // connections at once
	request time.Duration // for a request to arrive
	idle    time.Duration // between two requests of a connection
	write   time.Duration // for a client to take what is written at once, at most 64 KiB
	listing time.Duration // for a client to take a whole listing
}

var usualLimits = limits{conns: 64, request: 10 * time.Second, idle: 10 * time.Second, write: time.Minute, listing: 10 * time.Minute}

// limited is a listener that never lets more than some number of connections be open. When one more comes, it closes one
// of the process that has most of them: so a flood of connections costs those who make it, and nat64ctl is answered.
type limited struct {
	net.Listener
	limits limits

	mu    sync.Mutex
	conns []*conn // in the order in which they came
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	of     *limited
	pid    int         // of the process at the other end; 0: not known
	active atomic.Bool // a request is being read or answered
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, of: l, pid: peerPID(accepted)}
	if v := l.add(c); v != nil {
		v.Close()
	}
	return c, nil
}

// add notes a connection, and returns the one that has to make way, if any.
func (l *limited) add(c *conn) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	if len(l.conns) <= l.limits.conns {
		return nil
	}
	return victim(l.conns)
}

// victim returns the oldest connection of the process that has most of them, if possible one that waits for a request, but
// not the newest of all.
func victim(conns []*conn) *conn {
	count := make(map[int]int)
	for _, c := range conns {
		count[c.pid]++
	}
	var v *conn
	for _, c := range conns[:len(conns)-1] {
		if v == nil || count[c.pid] > count[v.pid] || count[c.pid] == count[v.pid] && v.active.Load() && !c.active.Load() {
			v = c
		}
	}
	return v
}

// state follows what an http.Server does with a connection.
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

// Write implements net.Conn. It fails when the client takes nothing for too long.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.of.limits.write)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// peerPID returns the process at the other end of a connection over a unix socket, as the kernel knows it, or 0.
func peerPID(c net.Conn) (pid int) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}
