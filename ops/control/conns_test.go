package control_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

// dial opens a connection to a control socket and sends the text.
func dial(t *testing.T, path, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed reports whether the other end has closed a connection.
func closed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond)) // it fails only on a closed connection
	_, err := io.Copy(io.Discard, c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestVictimIsOfProcessWithMostConnections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pids   []int
		active []bool
		want   int
	}{
		{[]int{1, 2, 2, 3}, []bool{false, false, false, false}, 1},
		{[]int{1, 2, 2, 3}, []bool{false, true, false, false}, 2},
		{[]int{1, 2, 2, 3}, []bool{false, true, true, false}, 1},
		{[]int{1, 2, 3}, []bool{true, false, false}, 1},
		{[]int{2, 1, 1, 2, 2}, []bool{true, false, false, true, true}, 0},
		{[]int{1, 1, 1}, []bool{true, true, false}, 0},
	} {
		if got := control.Victim(c.pids, c.active); got != c.want {
			t.Errorf("processes %v, active %v: victim is connection %d, want %d", c.pids, c.active, got, c.want)
		}
	}
}

// nat64ctl still works during a flood of connections that send nothing, send half a request, or do not read their
// answer.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 100_000})
	c.Timeout = 2 * time.Second
	texts := []string{"", "GET /v1/sta", "GET /v1/bindings HTTP/1.1\r\nHost: x\r\n\r\n", "POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"}
	var flood []net.Conn
	for i := range 4 * control.MaxConns {
		flood = append(flood, dial(t, c.Socket, texts[i%len(texts)]))
		if i%control.MaxConns == 0 {
			if _, err := c.Version(t.Context()); err != nil {
				t.Errorf("after %d connections: %v", i, err)
			}
		}
	}
	if _, err := c.Version(t.Context()); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(5 * time.Second); len(flood) > control.MaxConns && time.Now().Before(end); {
		flood = slices.DeleteFunc(flood, closed)
	}
	if len(flood) > control.MaxConns {
		t.Errorf("%d connections are open, want %d at most", len(flood), control.MaxConns)
	}
}

// The server closes a connection that stalls at any point.
func TestConnectionsAreBoundedInTime(t *testing.T) {
	t.Parallel()
	m := &memory{bindings: 1_000_000}
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- control.ServeWithin(ctx, l, control.NewServer(m, nil, slog.New(slog.DiscardHandler)), 200*time.Millisecond)
	}()
	conns := map[string]net.Conn{}
	for _, text := range []string{
		"",
		"GET /v1/version HTTP/1.1\r\n",
		"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /v1/version HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"GET /v1/version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
		"GET /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"GET /v1/bindings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n",
		"POST /v1/pause HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"POST /v1/pool4/add HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"POST /v1/pool4/add HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat(" ", 100),
	} {
		conns[text] = dial(t, path, text)
	}
	slow := dial(t, path, "GET /v1/bindings HTTP/1.1\r\nHost: x\r\n\r\n")
	for end := time.Now().Add(5 * time.Second); len(conns) > 0 && time.Now().Before(end); {
		for text, c := range conns {
			if closed(c) {
				delete(conns, text)
			}
		}
	}
	for text := range conns {
		t.Errorf("a connection is still open after %q", text)
	}
	if m.paused || len(m.changes) > 0 {
		t.Error("half a request was executed")
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := slow.Write([]byte("\r\n")); err != nil {
			break // EPIPE: the daemon has closed it
		}
		if time.Now().After(end) {
			t.Error("a listing continues although its client does not read")
			break
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A host that holds many connections to a server of HTTP loses its own, and a connection of another host stays open.
func TestBoundedClosesConnectionsOfBusiestHost(t *testing.T) {
	t.Parallel()
	const most = 8
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, state := control.Bounded(tcp, most)
	s := &http.Server{Handler: http.NotFoundHandler(), ConnState: state}
	defer s.Close()
	go s.Serve(l)
	open := func(from string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.DialContext(t.Context(), "tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second)) // it fails only on a closed connection
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		_, err := http.ReadResponse(bufio.NewReader(c), nil)
		return err
	}
	honest := open("127.0.0.1")
	if err := ask(honest); err != nil {
		t.Fatal(err)
	}
	for range 4 * most {
		_ = ask(open("127.0.0.2")) // its connection may be closed at once
	}
	if err := ask(honest); err != nil {
		t.Errorf("the connection of another host: %v", err)
	}
	if err := ask(open("127.0.0.1")); err != nil {
		t.Errorf("a new connection of another host: %v", err)
	}
}

// A burst of short requests of one host, more than may be open at a time, is answered completely.
func TestBoundedAnswersBurst(t *testing.T) {
	t.Parallel()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, state := control.Bounded(tcp, 16)
	s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Millisecond) }), ConnState: state}
	defer s.Close()
	go s.Serve(l)
	errs := make(chan error)
	for range 100 {
		go func() {
			client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
			answer, err := client.Get("http://" + tcp.Addr().String())
			if err == nil {
				answer.Body.Close()
			}
			errs <- err
		}()
	}
	for range 100 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
