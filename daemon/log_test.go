//go:build linux

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"nat64d/config"
	"nat64d/linux/afpacket"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
	"nat64d/session"
	"nat64d/table"
)

// reader is the other end of standard error.
type reader struct {
	mu   sync.Mutex
	text strings.Builder
	err  error // error of writes
	most int   // bytes accepted by a write before it fails
	hold chan struct{}
}

func (r *reader) Write(b []byte) (int, error) {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		b = b[:min(r.most, len(b))]
	}
	r.text.Write(b)
	return len(b), r.err
}

// fail makes writes fail after most bytes, or succeed again for a nil error.
func (r *reader) fail(err error, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.most = err, most
}

func (r *reader) read() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// A reader that stops does not block writers. Lines that do not fit into the queue are counted, and reported when it
// continues.
func TestLogWithStoppedReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{hold: make(chan struct{})}
		q := NewLogQueue(r)
		l := newLogs(config.Log{Level: "info", Format: "text"}, q)
		line := strings.Repeat("x", 8000)
		const n = 2000
		for i := range n {
			fmt.Fprintln(q, line, i)
		}
		time.Sleep(2 * stuckAfter)
		if w := l.warnings(); len(w) != 1 || !strings.Contains(w[0], "takes nothing") {
			t.Errorf("warnings %q", w)
		}
		lost := l.sample().Value
		if lost < n-queueBytes/8000-chunkBytes/8000 || lost >= n {
			t.Errorf("%d of %d lines are lost", lost, n)
		}
		began := time.Now()
		q.Close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("closing took %v", took)
		}
		close(r.hold)
		synctest.Wait()
		text := r.read()
		if got := strings.Count(text, line); got != n-int(lost) {
			t.Errorf("%d lines are written and %d counted as lost, of %d", got, lost, n)
		}
		if want := fmt.Sprintf("lines=%d", lost); strings.Count(text, "lines of the log were lost") != 1 || !strings.Contains(text, want) {
			t.Errorf("no line has %q", want)
		}
		if w := l.warnings(); len(w) != 0 {
			t.Errorf("warnings %q when all is written", w)
		}
	})
}

// While writes fail, lines are lost and counted. When they succeed again, a separate line reports the loss without a
// new event.
func TestLogWithDeadReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{}
		q := NewLogQueue(r)
		l := newLogs(config.Log{Level: "info", Format: "json"}, q)
		l.Info("first")
		synctest.Wait()
		r.fail(syscall.EPIPE, 0)
		for range 3 {
			l.Info("never seen")
			synctest.Wait()
		}
		r.fail(syscall.ENOSPC, 10)
		l.Info("torn")
		synctest.Wait()
		if w := l.warnings(); len(w) != 1 || l.sample().Value != 4 {
			t.Errorf("warnings %q, %d lines lost", w, l.sample().Value)
		}
		r.fail(nil, 0)
		time.Sleep(2 * tellEvery)
		synctest.Wait()
		l.Info("last")
		q.Close(time.Minute)
		text := strings.Split(strings.TrimSuffix(r.read(), "\n"), "\n")
		if n := len(text); n != 4 || !strings.Contains(text[2], `"lines":4`) || !strings.Contains(text[3], "last") || !json.Valid([]byte(text[3])) {
			t.Errorf("got %q", text)
		}
	})
}

// Writing to a pipe that another process has made non-blocking waits for room.
func TestLogToNonBlockingPipe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &reader{err: syscall.EAGAIN, most: 5}
		q := NewLogQueue(r)
		l := newLogs(config.Log{Level: "info", Format: "text"}, q)
		l.Info("hello")
		time.Sleep(time.Second)
		r.fail(nil, 0)
		q.Close(time.Minute)
		if text := r.read(); !strings.HasSuffix(text, "level=INFO msg=hello\n") || l.sample().Value != 0 {
			t.Errorf("got %q, %d lines lost", text, l.sample().Value)
		}
	})
}

// logging.level filters all lines except events of the tables.
func TestNATLogIgnoresLevel(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		r := &reader{}
		q := NewLogQueue(r)
		p := &Daemon{log: newLogs(config.Log{Level: "error", Format: format}, q)}
		p.log.Warn("held back")
		var all []session.Event
		for k := session.BindingMade; k <= session.SessionEnded; k++ {
			for _, proto := range protocols {
				all = append(all, session.Event{Kind: k, Flow: session.Flow{Proto: proto, Client: packet.Endpoint6{Port: 1}, Remote: packet.Endpoint4{Port: 2}}})
			}
		}
		all = append(all, session.Event{Kind: session.BlockMade, At: table.TimeOf(time.Second), Flow: session.Flow{Mapped: packet.Endpoint4{Port: 1024}}, LastPort: 2047})
		start := time.Date(2026, 11, 21, 3, 35, 11, 0, time.UTC)
		p.log.events(all, 5, start)
		q.Close(time.Minute)
		if text := r.read(); strings.Count(text, "\n") != 14 || strings.Contains(text, "held back") ||
			!strings.Contains(text, "2026-11-21T03:35:12") || !strings.Contains(text, "1024-2047") || !strings.Contains(text, "events of nat_log were lost") {
			t.Errorf("got %s", text)
		}
	}
}

// JSON has the same words as text for values of all types.
func TestLogValuesAreWordsInJSON(t *testing.T) {
	t.Parallel()
	prefix, err := pool6.ParsePrefix("64:ff9b::/96")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{packet.UDP, `"udp"`},
		{[]packet.Proto{packet.TCP, packet.ICMP}, `["tcp","icmp"]`},
		{prefix, `"64:ff9b::/96"`},
		{[]pool6.Prefix{prefix}, `["64:ff9b::/96"]`},
		{[]netip.Prefix(nil), `[]`},
		{[]netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}, `["2001:db8::/32"]`},
		{netip.MustParseAddrPort("[2001:db8::1]:53"), `"[2001:db8::1]:53"`},
		{session.BindingMade, `"binding made"`},
		{packet.V6, `"v6"`},
		{afpacket.Ring, `"ring"`},
		{90 * time.Second, `"1m30s"`},
		{net.HardwareAddr{2, 0, 0, 0, 0, 1}, `"02:00:00:00:00:01"`},
		{errors.New("no such file"), `"no such file"`},
		{fmt.Errorf("open: %w", syscall.ENOENT), `"open: no such file or directory"`},
		{struct{ a, b int }{1, 2}, `"{a:1 b:2}"`},
		{pool4.Entry{Addr: netip.MustParseAddr("192.0.2.1"), Lo: 1, Hi: 2}, ""},
		{nil, `null`},
		{7, `7`},
		{true, `true`},
	} {
		var b strings.Builder
		slog.New(newHandler(true, nil, &b)).Info("m", "value", c.value)
		var line map[string]json.RawMessage
		if err := json.Unmarshal([]byte(b.String()), &line); err != nil {
			t.Errorf("%T: %v in %s", c.value, err, b.String())
			continue
		}
		if got := string(line["value"]); c.want != "" && got != c.want || strings.HasPrefix(got, "{") {
			t.Errorf("%T: %s, want %s", c.value, got, c.want)
		}
	}
}
