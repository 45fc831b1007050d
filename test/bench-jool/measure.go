//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// allProtocols makes a packet socket receive every frame.
const allProtocols = unix.ETH_P_ALL

// The load arrives at these intervals of the guest's clock, so that the guest finds everything together that is in flight.
const (
	batchInterval = 640 * time.Microsecond
	loneInterval  = 200 * time.Microsecond
	batch         = 32
	// warmUp is how often they arrive before a measurement: in batches 0.4 seconds, in which flows are opened and
	// interfaces.offloads: auto adapts to the load.
	warmUp = 625
)

// workload is a measurement and its row of the table.
type workload struct {
	name, unit string
	measure    func(ctx context.Context, b *bed) (float64, error)
}

// workloads are in the order of the table. Those without load come first, because interfaces.offloads: auto adapts to a load for
// some time after its end.
var workloads = []workload{
	{"idle", "M/s", idle},
	{"lone, 1000 flows, 6→4", "", to4(1000, 1, 1)},
	{"lone, 1000 flows, 4→6", "", to6(1000, 1, 1)},
	{"lone, 5000 a second, 6→4", "", paced},
	{"ping, there and back", "", ping},
	{"32 at a time, 1 flow, 6→4", "", to4(1, 1, batch)},
	{"32 at a time, 1 flow, 4→6", "", to6(1, 1, batch)},
	{"32 at a time, 1000 flows, 6→4", "", to4(1000, 1, batch)},
	{"32 at a time, 1000 flows, 4→6", "", to6(1000, 1, batch)},
	{"32 at a time, 64 flows in runs of 16, 6→4", "", to4(64, 16, batch)},
	{"32 at a time, 64 flows in runs of 16, 4→6", "", to6(64, 16, batch)},
	{"TCP super-packets, 6→4", "M/MB", tcp(true, true, false)},
	{"TCP super-packets, 4→6", "M/MB", tcp(true, true, true)},
	{"TCP frames, 6→4", "M/MB", tcp(false, true, false)},
	{"TCP frames, 4→6", "M/MB", tcp(false, true, true)},
	{"TCP frames without GRO, 6→4", "M/MB", tcp(false, false, false)},
	{"TCP frames without GRO, 4→6", "M/MB", tcp(false, false, true)},
	{"new flow, 32 at a time", "", newFlows},
	{"memory of a session", "bytes", memory},
	{"TCP connections of 100 that survive a restart", "", survivors},
}

// measure measures a gateway once and adds its figures to the report.
func (b *bed) measure(ctx context.Context, r *report, g gateway, only string) error {
	b.gateway = g
	b.clientSource, b.server = g.ends()
	if err := b.start(ctx, g); err != nil {
		return err
	}
	for _, w := range workloads {
		if !strings.Contains(w.name, only) {
			continue
		}
		v, err := w.measure(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, r.fail(g.name, w.name, err))
			continue
		}
		r.put(g.name, w.name, w.unit, v)
		fmt.Fprintf(os.Stderr, "%s: %s: %s\n", g.name, w.name, number(v)) // a measurement takes seconds
	}
	return nil
}

// idle returns millions of instructions in a second without packets.
func idle(_ context.Context, b *bed) (float64, error) {
	const length = 5 * time.Second
	n, err := b.instructions(func() error { time.Sleep(length - settle); return nil })
	return n / length.Seconds() / 1e6, err
}

// to4 measures a packet of the client, window of which arrive together.
func to4(flows, run, window int) func(context.Context, *bed) (float64, error) {
	return func(_ context.Context, b *bed) (float64, error) {
		o, err := b.clientOrder(flows, firstPort, sinkPort)
		if err != nil {
			return 0, err
		}
		o.run = run
		return b.packets(b.to4, o, window)
	}
}

// to6 measures a packet of the server.
func to6(flows, run, window int) func(context.Context, *bed) (float64, error) {
	return func(_ context.Context, b *bed) (float64, error) {
		o, err := b.serverOrder(flows)
		if err != nil {
			return 0, err
		}
		o.run = run
		return b.packets(b.to6, o, window)
	}
}

func (b *bed) packets(l lane, o order, window int) (float64, error) {
	interval := batchInterval
	if window == 1 {
		interval = 0 // the next one follows when this one has passed
	}
	return b.packetsEvery(interval, l, o, window)
}

// paced measures a packet of the client that arrives alone, at intervals.
func paced(_ context.Context, b *bed) (float64, error) {
	o, err := b.clientOrder(1000, firstPort, sinkPort)
	if err != nil {
		return 0, err
	}
	return b.packetsEvery(loneInterval, b.to4, o, 1)
}

func (b *bed) packetsEvery(interval time.Duration, l lane, o order, window int) (float64, error) {
	if err := b.guest.Batch(interval); err != nil {
		return 0, err
	}
	if err := l.send(o, warmUp*window, window, nil); err != nil {
		return 0, err
	}
	cost, err := b.slope(2000, 8000, func(n int) error { return l.send(o, n, window, nil) })
	if err != nil {
		return 0, err
	}
	return cost, b.guest.Batch(0)
}

// newFlows measures the first packet of a flow that needs a binding.
func newFlows(_ context.Context, b *bed) (float64, error) {
	if err := b.guest.Batch(batchInterval); err != nil {
		return 0, err
	}
	first := firstPort + 2000 // not used by other workloads
	cost, err := b.slope(2000, 10000, func(n int) error {
		o, err := b.clientOrder(n, first, sinkPort+1)
		if err != nil {
			return err
		}
		first += n
		return b.to4.send(o, n, batch, nil)
	})
	if err != nil {
		return 0, err
	}
	return cost, b.guest.Batch(0)
}

// memory returns the bytes that a session takes with its share of a binding: 25,000 bindings with two sessions each. By default
// Jool gives up looking for a free port after a while, so that more bindings would be refused.
func memory(ctx context.Context, b *bed) (float64, error) {
	const bindings, first = 25000, firstPort
	if err := b.start(ctx, b.gateway); err != nil { // with empty tables
		return 0, err
	}
	before, err := b.used(ctx)
	if err != nil {
		return 0, err
	}
	for to := range 2 {
		o, err := b.clientOrder(bindings, first, sinkPort+to)
		if err != nil {
			return 0, err
		}
		if err := b.to4.send(o, bindings, batch, nil); err != nil {
			return 0, err
		}
	}
	after, err := b.used(ctx)
	return (after - before) / (2 * bindings), err
}

// survivors returns how many of 100 connections still carry data after the gateway was stopped and started again.
func survivors(ctx context.Context, b *bed) (float64, error) {
	const n, patience = 100, 10 * time.Second
	listener, err := b.guest.Server.Listen("tcp", net.JoinHostPort(lab.Server4, "7000"))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			go io.Copy(c, c)
		}
	}()
	var open []net.Conn
	for range n {
		c, err := b.guest.Client.Dial(ctx, "tcp", net.JoinHostPort(b.server.String(), "7000"))
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if open = append(open, c); !echoes(c, patience) {
			return 0, errors.New("a new connection carries no data")
		}
	}
	if _, err := b.guest.Run(ctx, b.gateway.stop+"\nset -e\n"+b.gateway.start+"\nsleep 2"); err != nil {
		return 0, err
	}
	var alive atomic.Int64
	var group sync.WaitGroup
	for _, c := range open {
		group.Go(func() {
			if echoes(c, patience) {
				alive.Add(1)
			}
		})
	}
	group.Wait()
	return float64(alive.Load()), nil
}

// echoes reports whether a connection returns a byte.
func echoes(c net.Conn, patience time.Duration) bool {
	b := []byte{1}
	_ = c.SetDeadline(time.Now().Add(patience)) // an open connection accepts it
	if _, err := c.Write(b); err != nil {
		return false
	}
	_, err := io.ReadFull(c, b)
	return err == nil
}

// ping measures an echo request with its reply.
func ping(ctx context.Context, b *bed) (float64, error) {
	return b.slope(20, 80, func(n int) error {
		out, err := b.guest.Client.Output(ctx, "ping", "-q", "-c", strconv.Itoa(n), "-i", "0.02", "-W", "2", b.server.String())
		if err != nil {
			return fmt.Errorf("ping: %w: %s", err, out)
		}
		return nil
	})
}

// tcp measures a megabyte of a connection, in millions of instructions. The ends send super-packets or frames, and the guest
// coalesces frames or not.
func tcp(super, gro, down bool) func(context.Context, *bed) (float64, error) {
	few, many := 5, 35
	if super {
		few, many = 20, 120
	}
	return func(ctx context.Context, b *bed) (float64, error) {
		if !super {
			if err := b.offloads(ctx, false); err != nil {
				return 0, err
			}
			defer b.offloads(ctx, true)
		}
		if !gro {
			if _, err := b.guest.Run(ctx, "ethtool -K eth0 gro off && ethtool -K eth1 gro off"); err != nil {
				return 0, err
			}
			defer b.guest.Run(ctx, "ethtool -K eth0 gro on && ethtool -K eth1 gro on")
		}
		if err := b.guest.Batch(batchInterval); err != nil {
			return 0, err
		}
		if err := b.transfer(ctx, many*1e6, down); err != nil { // as warmUp
			return 0, err
		}
		cost, err := b.slope(few, many, func(n int) error { return b.transfer(ctx, n*1e6, down) })
		return cost / 1e6, errors.Join(err, b.guest.Batch(0))
	}
}

// inFlight is the size of the sender's buffer, which limits what the guest finds together. With less, the sender often waits for a
// delayed acknowledgement.
const inFlight = 256 << 10

// transfer sends bytes over a new connection of the client, from the client or from the server.
func (b *bed) transfer(ctx context.Context, bytes int, down bool) error {
	listener, err := b.guest.Server.Listen("tcp", net.JoinHostPort(lab.Server4, "7000"))
	if err != nil {
		return err
	}
	defer listener.Close()
	client, err := b.guest.Client.Dial(ctx, "tcp", net.JoinHostPort(b.server.String(), "7000"))
	if err != nil {
		return err
	}
	defer client.Close()
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	from, to := client, server
	if down {
		from, to = server, client
	}
	if err := from.(*net.TCPConn).SetWriteBuffer(inFlight); err != nil {
		return err
	}
	var both errgroup.Group
	both.Go(func() error {
		_, err := io.CopyN(from, zeros{}, int64(bytes))
		return err
	})
	both.Go(func() error {
		_, err := io.CopyN(io.Discard, to, int64(bytes))
		return err
	})
	return both.Wait()
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
