package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

const (
	closedPort   = 4 // nothing listens on it
	replyTimeout = 2 * time.Second
	bigData      = 4000 // bytes: more than a frame holds
)

// correctness reports how many kinds of traffic pass. Every gateway must forward all of them.
func correctness(ctx context.Context, s *stint) error {
	kinds := []struct {
		name  string
		check func(context.Context) error
	}{
		{"ping", func(ctx context.Context) error { return s.echoRequest(ctx, payload) }},
		{"ping in fragments", func(ctx context.Context) error { return s.echoRequest(ctx, bigData) }},
		{"UDP", func(ctx context.Context) error { return s.echo(ctx, payload) }},
		{"UDP in fragments", func(ctx context.Context) error { return s.echo(ctx, bigData) }},
		{"ICMP error", s.unreachable},
	}
	passed, errs := 0, []error(nil)
	for _, k := range kinds {
		within, cancel := context.WithTimeout(ctx, replyTimeout)
		err := k.check(within)
		cancel()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", k.name, err))
			continue
		}
		passed++
	}
	s.put(fmt.Sprintf("correct: of %d kinds of traffic", len(kinds)), float64(passed))
	return errors.Join(errs...)
}

// echoRequest pings the server with size bytes of data.
func (s *stint) echoRequest(ctx context.Context, size int) error {
	_, err := s.client.Ping(ctx, s.destination.String(), 1, size)
	return err
}

// datagram sends a datagram to a port of the server and returns the reply.
func (s *stint) datagram(ctx context.Context, port uint16, out []byte) ([]byte, error) {
	c, err := s.client.Dial(ctx, "udp", netip.AddrPortFrom(s.destination, port).String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(out); err != nil {
		return nil, err
	}
	in := make([]byte, 1<<16)
	n, err := c.Read(in)
	return in[:n], err
}

// echo sends a datagram of size bytes and expects it back.
func (s *stint) echo(ctx context.Context, size int) error {
	out := bytes.Repeat([]byte{0, 1, 2, 3}, size/4)
	in, err := s.datagram(ctx, servePort, out)
	if err == nil && !bytes.Equal(in, out) {
		return fmt.Errorf("sent %d bytes, got %d different ones", len(out), len(in))
	}
	return err
}

// unreachable expects the ICMP error for a datagram to a closed port.
func (s *stint) unreachable(ctx context.Context) error {
	if _, err := s.datagram(ctx, closedPort, []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("got %v, want %w", err, syscall.ECONNREFUSED)
	}
	return nil
}
