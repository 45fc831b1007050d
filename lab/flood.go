//go:build linux

package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Direction is the direction in which most bytes are sent.
type Direction byte

// The directions, by the first byte that the client of a flood server sends.
const (
	Up   Direction = 'u' // from the client to the server
	Down Direction = 'd' // from the server to the client
)

// warmUp is excluded from a measurement: the congestion window grows and neighbours are resolved.
const warmUp = 300 * time.Millisecond

// Flood is a TCP server that discards or sends data at the maximum rate and counts the bytes that arrive at either
// end.
type Flood struct {
	listener net.Listener
	received atomic.Int64
	running  sync.WaitGroup

	open struct {
		sync.Mutex
		closed bool
		conns  map[net.Conn]struct{} // of the server's end
	}
}

// ServeFlood starts a Flood on an address in the namespace; Close ends it.
func (n *Namespace) ServeFlood(address string) (*Flood, error) {
	l, err := n.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	f := &Flood{listener: l}
	f.open.conns = make(map[net.Conn]struct{})
	f.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			f.running.Go(func() { f.serve(c) })
		}
	})
	return f, nil
}

// Close ends the server and its connections.
func (f *Flood) Close() error {
	err := f.listener.Close()
	f.open.Lock()
	f.open.closed = true
	for c := range f.open.conns {
		_ = c.Close() // its client may be unreachable
	}
	f.open.Unlock()
	f.running.Wait()
	return err
}

func (f *Flood) serve(c net.Conn) {
	defer c.Close()
	if !f.enter(c) {
		return
	}
	defer f.leave(c)
	var d [1]byte
	if _, err := io.ReadFull(c, d[:]); err != nil {
		return // the client changed its mind
	}
	f.move(c, Direction(d[0]) == Up)
}

func (f *Flood) enter(c net.Conn) bool {
	f.open.Lock()
	defer f.open.Unlock()
	if !f.open.closed {
		f.open.conns[c] = struct{}{}
	}
	return !f.open.closed
}

func (f *Flood) leave(c net.Conn) {
	f.open.Lock()
	defer f.open.Unlock()
	delete(f.open.conns, c)
}

// move reads or writes until the connection ends. Closing it ends a measurement.
func (f *Flood) move(c net.Conn, read bool) {
	b := make([]byte, copyBuffer)
	for {
		if !read {
			if _, err := c.Write(b); err != nil {
				return
			}
			continue
		}
		got, err := c.Read(b)
		f.received.Add(int64(got))
		if err != nil {
			return
		}
	}
}

// Rate measures the throughput from a namespace to the server at an address: it opens the given number of connections
// and returns the bits per second that arrive during length, after a short warm-up.
func (f *Flood) Rate(ctx context.Context, from *Namespace, address string, d Direction, streams int, length time.Duration) (float64, error) {
	var conns []net.Conn
	var running sync.WaitGroup
	defer running.Wait()
	defer func() {
		for _, c := range conns {
			_ = c.Close() // the measurement is done
		}
	}()
	for range streams {
		c, err := from.Dial(ctx, "tcp", address)
		if err != nil {
			return 0, err
		}
		conns = append(conns, c)
		if _, err := c.Write([]byte{byte(d)}); err != nil {
			return 0, err
		}
		running.Go(func() { f.move(c, d == Down) })
	}
	if err := pause(ctx, warmUp); err != nil {
		return 0, err
	}
	before, start := f.received.Load(), time.Now()
	if err := pause(ctx, length); err != nil {
		return 0, err
	}
	rate := float64(f.received.Load()-before) * 8 / time.Since(start).Seconds()
	if rate == 0 {
		return 0, fmt.Errorf("nothing arrived from %s in %v", address, length)
	}
	return rate, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
