package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// Port numbers of a small pool4 and of the client in TestSmallPoolOfConnections.
const (
	fewPorts    = 1001 // 7000-8000
	atOnce      = 50
	manyInAll   = 5000
	clientPorts = 10000 // the first of the client's ports, each of which has one connection
)

// With 1,001 ports a client has 1,001 short TCP connections in four minutes; one more is refused at once. With
// sessions.reclaim, 5,000 succeed in seconds, as in ab -n 5000 -c 50.
func TestSmallPoolOfConnections(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, "pool4: [ { address: "+lab.Spare4+", ports: 7000-8000 } ]\n")
	serveHTTP(t, l)
	if err := shortConnections(l, clientPorts, fewPorts); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	err := shortConnection(l, clientPorts+fewPorts)
	if took := time.Since(began); !errors.Is(err, syscall.EHOSTUNREACH) || took > time.Second {
		t.Errorf("connection %d: %v after %v, want %v at once (ICMPv6 type 1 code 3)", fewPorts+1, err, took, syscall.EHOSTUNREACH)
	}
	g.must("config", "set", "sessions.reclaim", "when_full")
	refused := g.dropped("pool_exhausted")
	began = time.Now()
	if err := shortConnections(l, clientPorts+fewPorts+1, manyInAll); err != nil {
		t.Error(err)
	}
	t.Logf("%d connections took %v", manyInAll, time.Since(began))
	if n := g.dropped("pool_exhausted") - refused; n != 0 {
		t.Errorf("%d SYNs were refused", n)
	}
	if n := g.counter("nat64_sessions_reclaimed_total"); n < manyInAll-atOnce {
		t.Errorf("%d ports were reclaimed", n)
	}
}

// shortConnections makes n requests over HTTP, each over its own connection from its own port, several at once. It returns an
// error if one fails.
func shortConnections(l *lab.Lab, port, n int) error {
	var next, failed atomic.Int64
	var first atomic.Pointer[error]
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := shortConnection(l, port+int(i)); err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	if all.Wait(); failed.Load() != 0 {
		return fmt.Errorf("%d of %d connections failed, such as: %w", failed.Load(), n, *first.Load())
	}
	return nil
}

// shortConnection makes a request over HTTP. The server closes the connection first.
func shortConnection(l *lab.Lab, port int) error {
	c, err := l.Client.DialFrom(context.Background(), client("tcp", 0, port), "tcp", target+":80")
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // otherwise the read waits forever
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && !bytes.Contains(answer, []byte(lab.Greeting)) {
		err = fmt.Errorf("unexpected answer %q", answer)
	}
	return err
}
