package test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nat64d/lab"
)

// The flows of steady.
const (
	steadyIdle   = 50                    // TCP connections
	steadyPace   = time.Millisecond      // between two datagrams
	steadyChunk  = 8 << 10               // bytes of the download that the server sends at a time
	steadyEvery  = time.Millisecond      // between two chunks
	steadyBreak  = 50 * time.Millisecond // a longer silence is an interruption
	steadyCalm   = 150 * time.Millisecond
	steadyWithin = 20 * time.Second
)

// steady are established flows to an IPv4 host that measure interruptions of service: a paced UDP flow with replies, a paced TCP
// download that both ends hash, and TCP connections that are idle in between.
type steady struct {
	t    *testing.T
	udp  net.Conn
	down net.Conn // of the client
	idle []net.Conn

	stop     atomic.Bool
	running  sync.WaitGroup
	next     atomic.Uint64 // number of the next datagram
	datagram silence
	download silence
	sent     [sha256.Size]byte // hash of the download at the server
	got      [sha256.Size]byte // and at the client

	mu      sync.Mutex
	replies []uint64 // numbers of the datagrams with a reply
}

// silence measures the time between events.
type silence struct {
	mu      sync.Mutex
	last    time.Time     // the last event
	end     time.Time     // of the last interruption
	longest time.Duration // since begin
}

// begin begins a measurement.
func (s *silence) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.last, s.end, s.longest = now, now, 0
}

// event ends a silence.
func (s *silence) event() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	d := now.Sub(s.last)
	if d > steadyBreak {
		s.end = now
	}
	s.last, s.longest = now, max(s.longest, d)
}

// read returns the longest silence, and reports whether there has been no interruption for steadyCalm.
func (s *silence) read() (longest time.Duration, calm bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Since(s.last)
	return max(s.longest, now), now < steadyBreak && time.Since(s.end) > steadyCalm
}

// makeSteady opens the flows from the client to an address of an IPv4 host, as the client sees it.
func makeSteady(t *testing.T, from, at *lab.Namespace, address string) *steady {
	t.Helper()
	s := &steady{t: t}
	to := func(network, port string) net.Conn {
		c, err := from.Dial(limit(t, 5*time.Second), network, address+":"+port)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range steadyIdle {
		s.idle = append(s.idle, to("tcp", "7"))
		if err := exchange(s.idle[i], uint64(i)); err != nil {
			t.Fatal(err)
		}
	}
	s.udp = to("udp", "7")
	roomy(t, s.udp.(*net.UDPConn))
	l, err := at.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.down = to("tcp", "80")
	up, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(s.speak)
	s.running.Go(s.listen)
	s.running.Go(func() { s.serve(up) })
	s.running.Go(s.fetch)
	t.Cleanup(func() { s.stop.Store(true); closeAll(append(s.idle, s.udp, s.down, up)) })
	return s
}

// speak sends numbered datagrams.
func (s *steady) speak() {
	tick := time.NewTicker(steadyPace)
	defer tick.Stop()
	for !s.stop.Load() {
		<-tick.C
		_, _ = s.udp.Write(binary.BigEndian.AppendUint64(nil, s.next.Add(1)-1)) // fails while the link is down
	}
	_ = s.udp.SetReadDeadline(time.Now())
}

// listen notes the replies.
func (s *steady) listen() {
	var b [8]byte
	for !s.stop.Load() {
		if n, err := s.udp.Read(b[:]); err != nil || n != len(b) {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // an ICMP error
		}
		s.datagram.event()
		s.mu.Lock()
		s.replies = append(s.replies, binary.BigEndian.Uint64(b[:]))
		s.mu.Unlock()
	}
}

// serve sends the download.
func (s *steady) serve(c net.Conn) {
	defer c.Close()
	tick := time.NewTicker(steadyEvery)
	defer tick.Stop()
	sum := sha256.New()
	b := make([]byte, steadyChunk)
	for n := byte(0); !s.stop.Load(); n++ {
		<-tick.C
		b[0] = n
		sum.Write(b)
		if _, err := c.Write(b); err != nil {
			s.t.Errorf("download: %v", err)
			break
		}
	}
	s.sent = [sha256.Size]byte(sum.Sum(nil))
}

// fetch receives the download.
func (s *steady) fetch() {
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(sum, events{&s.download}), s.down); err != nil {
		s.t.Errorf("download: %v", err)
	}
	s.got = [sha256.Size]byte(sum.Sum(nil))
}

// events is a writer whose writes are events of a silence.
type events struct{ *silence }

func (e events) Write(b []byte) (int, error) { e.event(); return len(b), nil }

// cost is what an event has cost the flows.
type cost struct {
	udp, tcp time.Duration // without service
	lost     int           // datagrams without a reply
	sent     int
}

func (c cost) String() string {
	return fmt.Sprintf("UDP %d ms, TCP %d ms, %d of %d datagrams lost", c.udp.Milliseconds(), c.tcp.Milliseconds(), c.lost, c.sent)
}

// during measures what f costs the flows, until they have service again. Idle connections must still echo.
func (s *steady) during(name string, f func()) (c cost) {
	s.t.Helper()
	s.mu.Lock()
	s.replies = nil
	first := s.next.Load()
	s.mu.Unlock()
	s.datagram.begin()
	s.download.begin()
	f()
	eventually(s.t, steadyWithin, name+": the flows have service again", func() error {
		var udp, tcp bool
		c.udp, udp = s.datagram.read()
		c.tcp, tcp = s.download.read()
		if !udp || !tcp {
			return fmt.Errorf("UDP %v, TCP %v", udp, tcp)
		}
		return nil
	})
	end := s.next.Load()
	eventually(s.t, steadyWithin, name+": a reply to the last datagram", func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.replies) == 0 || slices.Max(s.replies) < end {
			return errors.New("none")
		}
		c.sent = int(end - first)
		c.lost = c.sent
		for _, n := range s.replies {
			if n >= first && n < end {
				c.lost--
			}
		}
		return nil
	})
	for i, conn := range s.idle {
		if err := exchange(conn, uint64(i)); err != nil {
			s.t.Errorf("%s: idle connection %d: %v", name, i, err)
		}
	}
	return c
}

// end ends the flows and compares the hashes.
func (s *steady) end() {
	s.t.Helper()
	s.stop.Store(true)
	s.running.Wait()
	if !bytes.Equal(s.sent[:], s.got[:]) {
		s.t.Error("the download has another hash at the client than at the server")
	}
	closeAll(append(s.idle, s.udp, s.down))
}
