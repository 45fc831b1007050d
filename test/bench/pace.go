package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	queryPort    = 53
	queryText    = "a query has about forty bytes, as this one"
	answerWithin = time.Second
)

// paceOrder contains the server and the load: connections and queries, each at a rate, whatever becomes of them.
type paceOrder struct {
	Destination  netip.Addr
	Rate         int           // a second
	Lead, Window time.Duration // only the window after the lead counts
}

// paceResult contains how many of each began in the window, and how many of these succeeded.
type paceResult struct{ Offered, Connections, Queries int }

// pace opens a short TCP connection and sends a query over UDP at steady intervals, each from a port of its own.
func pace(o paceOrder) (paceResult, error) {
	var connections, queries atomic.Int64
	var all sync.WaitGroup
	try := func(exchange func(netip.Addr) error, done *atomic.Int64, counts bool) {
		if exchange(o.Destination) == nil && counts {
			done.Add(1)
		}
	}
	offered := 0
	begin, interval := time.Now(), time.Second/time.Duration(o.Rate)
	for at := time.Duration(0); at < o.Lead+o.Window; at += interval {
		time.Sleep(time.Until(begin.Add(at))) // after a delay, those that are late follow at once
		counts := at >= o.Lead
		if counts {
			offered++
		}
		all.Go(func() { try(shortConnection, &connections, counts) })
		all.Go(func() { try(query, &queries, counts) })
	}
	took := time.Since(begin)
	all.Wait()
	if late := took - o.Lead - o.Window; late > answerWithin {
		return paceResult{}, fmt.Errorf("the last of %d began %v late: this machine is too slow", offered, late)
	}
	return paceResult{offered, int(connections.Load()), int(queries.Load())}, nil
}

// shortConnection sends a request and reads the answer until the server closes.
func shortConnection(to netip.Addr) error {
	d := net.Dialer{Timeout: answerWithin}
	c, err := d.Dial("tcp", netip.AddrPortFrom(to, servePort).String())
	if err != nil {
		return err
	}
	defer c.Close()
	answer, err := exchange(c, requestText, io.ReadAll)
	if err == nil && len(answer) != answerSize {
		return errors.New("the answer is incomplete")
	}
	return err
}

// query sends a datagram and waits for the answer.
func query(to netip.Addr) error {
	c, err := net.Dial("udp", netip.AddrPortFrom(to, queryPort).String())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = exchange(c, queryText, func(r io.Reader) ([]byte, error) {
		answer := make([]byte, len(queryText))
		_, err := io.ReadFull(r, answer)
		return answer, err
	})
	return err
}

// exchange writes a request and reads the answer within answerWithin.
func exchange(c net.Conn, request string, read func(io.Reader) ([]byte, error)) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return nil, err
	}
	return read(c)
}
