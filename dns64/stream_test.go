package dns64

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// One client cannot keep others out of TCP, whether its connections are idle or have a query under way.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	for name, first := range map[string][]byte{"idle": nil, "half a query": {0}, "busy": append([]byte{0, 12 + 11}, packed(t, "h.net.", nil)...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := zone(t, a7)
			c := testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
				if same(q.Question[0].Name, "h.net.") {
					return nil
				}
				return answer(w, q)
			}).udp)
			c.InFlight = 4 * maxStreams // the queries of evicted connections end a little later
			_, server := serve(t, c)
			for range maxStreams + 50 {
				c, err := net.Dial("tcp", server)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = c.Write(first)
			}
			for range 3 {
				if got := brief(exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

func TestIdleStreamsAreEvicted(t *testing.T) {
	t.Parallel()
	with := func(since int64, busy int32) *stream {
		s := new(stream)
		s.since.Store(since)
		s.busy.Store(busy)
		return s
	}
	inOrder := []*stream{with(1, 0), with(2, 0), with(1, 3), with(2, 1)}
	for i := range inOrder[1:] {
		if !inOrder[i].idler(inOrder[i+1]) || inOrder[i+1].idler(inOrder[i]) {
			t.Errorf("stream %d is not evicted for %d", i, i+1)
		}
	}
}

// pipe is a connection in memory with the address of a client.
type pipe struct{ net.Conn }

func (pipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4000} }

// startPipe starts a server for one connection and returns the client's end.
func startPipe(t *testing.T) net.Conn {
	client, server := net.Pipe()
	s := &Server{f: New(testConfig(t), slog.New(slog.DiscardHandler))}
	go s.converse(t.Context(), &stream{Conn: pipe{server}})
	return client
}

// framed returns a query about AAAA with its length, for TCP.
func framed(t *testing.T, name string) []byte {
	b := packed(t, name, nil)
	return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)
}

// expectName reads an answer and checks its name.
func expectName(t *testing.T, c net.Conn, name string) {
	t.Helper()
	m, err := (&dns.Conn{Conn: c}).ReadMsg()
	if err != nil || m.Question[0].Name != name || m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
		t.Errorf("%s: got %v, %v", name, m, err)
	}
}

// TCP may split a query anywhere, even within its length.
func TestQueryInPieces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := startPipe(t)
		defer c.Close()
		for range 2 {
			for _, b := range framed(t, ipv4only) {
				if _, err := c.Write([]byte{b}); err != nil {
					t.Fatal(err)
				}
			}
			expectName(t, c, ipv4only)
		}
	})
}

// A connection is closed after streamIdle without a complete query, even if bytes arrive.
func TestIdleStreamsAreClosed(t *testing.T) {
	t.Parallel()
	const almost = streamIdle - time.Second
	for _, row := range []struct {
		name  string
		sends func(*testing.T) []byte // after almost that time
		want  time.Duration
	}{
		{"nothing", func(*testing.T) []byte { return nil }, streamIdle},
		{"half a length", func(*testing.T) []byte { return []byte{0} }, streamIdle},
		{"half a query", func(t *testing.T) []byte { return framed(t, ipv4only)[:9] }, streamIdle},
		{"a query", func(t *testing.T) []byte { return framed(t, ipv4only) }, almost + streamIdle},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, c := time.Now(), startPipe(t)
				defer c.Close()
				time.Sleep(almost)
				if _, err := c.Write(row.sends(t)); err != nil {
					t.Fatal(err)
				}
				_, err := io.Copy(io.Discard, c)
				if took := time.Since(began); err != nil || took != row.want {
					t.Errorf("closed after %v, %v; want %v", took, err, row.want)
				}
			})
		})
	}
}

// startSlow starts a server whose upstream does not answer until it is released, and connects to it.
func startSlow(t *testing.T) (c *net.TCPConn, release func()) {
	answer, released := zone(t, a7), make(chan struct{})
	_, server := serve(t, testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		select {
		case <-released:
		case <-t.Context().Done():
		}
		return answer(w, q)
	}).udp))
	n, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	_ = n.SetDeadline(time.Now().Add(2 * askTimeout))
	return n.(*net.TCPConn), func() { close(released) }
}

// Queries on one connection are handled in parallel (RFC 7766 section 6.2.1.1).
func TestPipelining(t *testing.T) {
	t.Parallel()
	c, release := startSlow(t)
	if _, err := c.Write(append(framed(t, "h.example.com."), framed(t, ipv4only)...)); err != nil {
		t.Fatal(err)
	}
	expectName(t, c, ipv4only)
	release()
	expectName(t, c, "h.example.com.")
}

// A client that has closed its sending side still gets answers.
func TestHalfClosedStreams(t *testing.T) {
	t.Parallel()
	c, release := startSlow(t)
	if _, err := c.Write(framed(t, "h.example.com.")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	release()
	expectName(t, c, "h.example.com.")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the answer: got %v", err)
	}
}
