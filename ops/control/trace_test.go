package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

func TestTraceDeliversPacketsUntilItsLimit(t *testing.T) {
	t.Parallel()
	m := &memory{}
	c := start(t, m)
	f := control.TraceFilter{
		Client: netip.MustParsePrefix("2001:db8::/64"), Peer: netip.MustParsePrefix("192.0.2.0/24"), Ports: []uint16{0, 443},
		Protocols: []string{"tcp"}, Reasons: []string{"no_route"}, Drops: true, Limit: 2,
	}
	var got []control.Traced
	missed := uint64(0)
	err := c.Trace(t.Context(), f, func(p control.Traced) error { got = append(got, p); return nil }, func(n uint64) error { missed += n; return nil })
	if err != nil || !reflect.DeepEqual(got, traced) || missed != 2 {
		t.Errorf("%+v, %d missed, %v", got, missed, err)
	}
	if !reflect.DeepEqual(m.filter, f) {
		t.Errorf("the backend has got %+v, want %+v", m.filter, f)
	}
	released(t, m)
}

// released waits until every trace and capture has been closed.
func released(t *testing.T, m *memory) {
	t.Helper()
	for range 500 {
		m.mu.Lock()
		n := m.taps
		m.mu.Unlock()
		if n == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("a trace or a capture is not closed")
}

func TestTraceEndsWithItsClient(t *testing.T) {
	t.Parallel()
	m := &memory{}
	c := start(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Trace(ctx, control.TraceFilter{}, func(control.Traced) error { cancel(); return nil }, func(uint64) error { return nil })
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	released(t, m)
	mine := errors.New("mine")
	if err := c.Trace(t.Context(), control.TraceFilter{}, func(control.Traced) error { return mine }, func(uint64) error { return nil }); !errors.Is(err, mine) {
		t.Error(err)
	}
	released(t, m)
}

func TestTraceRefusesWrongFilters(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	var refused *control.Error
	err := c.Trace(t.Context(), control.TraceFilter{Reasons: []string{"nonsense"}}, nil, nil)
	if !errors.As(err, &refused) || refused.Hint != "look at the list" {
		t.Error(err)
	}
	for query, want := range map[string]string{
		"port=65536":                  "a number from 0 to 65535",
		"port=":                       "a number from 0 to 65535",
		"drops=yes":                   "true or false",
		"snap=-1":                     "one number",
		"client=192.0.2.1":            "an IPv6 address or prefix",
		"reasons=no_route":            "use protocol, client, peer, port",
		"limit=x":                     "1 or more",
		strings.Repeat("port=1&", 65): "at most 64",
	} {
		if _, err := control.ParseTrace(mustQuery(t, query)); !errors.As(err, &refused) || !strings.Contains(refused.Hint, want) {
			t.Errorf("%s: %v, want the hint %q", query, err, want)
		}
	}
}

func mustQuery(t *testing.T, s string) url.Values {
	t.Helper()
	v, err := url.ParseQuery(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestCaptureDeliversPacketsUntilItsLimit(t *testing.T) {
	t.Parallel()
	m := &memory{}
	c := start(t, m)
	var begun []control.CaptureStart
	var got []control.Captured
	missed := uint64(0)
	capture := func(ctx context.Context, f control.TraceFilter, yield func(control.Captured) error) error {
		return c.Capture(ctx, f, func(s control.CaptureStart) error { begun = append(begun, s); return nil }, yield,
			func(n uint64) error { missed += n; return nil })
	}
	err := capture(t.Context(), control.TraceFilter{Limit: 2, Snap: 96}, func(p control.Captured) error { got = append(got, p); return nil })
	if err != nil || !reflect.DeepEqual(got, captured) || missed != 2 || !reflect.DeepEqual(begun, []control.CaptureStart{captureStart}) || m.filter.Snap != 96 {
		t.Errorf("%+v, %+v, %d missed, %v; the backend has got %+v", begun, got, missed, err, m.filter)
	}
	released(t, m)
	ctx, cancel := context.WithCancel(t.Context())
	if err := capture(ctx, control.TraceFilter{}, func(control.Captured) error { cancel(); return nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	released(t, m)
	mine := errors.New("mine")
	if err := capture(t.Context(), control.TraceFilter{}, func(control.Captured) error { return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	released(t, m)
}

// A capture from another program, or of another version, is an error and not a crash.
func TestCaptureRefusesStrangeLines(t *testing.T) {
	t.Parallel()
	none := func(control.CaptureStart) error { return nil }
	for _, text := range []string{`{"item":{}}`, `{"missed":3}`, `{}`, `{"start":{}}{"start":{}}`, `{"start":{}}{}`, `{"start":{}}`, `[`, ``} {
		c := &control.Client{Socket: raw(t, func(w io.Writer) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n%s", text)
		})}
		err := c.Capture(t.Context(), control.TraceFilter{}, none, func(control.Captured) error { return nil }, func(uint64) error { return nil })
		if !errors.Is(err, control.ErrUnreachable) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Packets contain what their users send, so a client that may only read cannot capture them.
func TestCaptureNeedsTheRightToChange(t *testing.T) {
	t.Parallel()
	path, text := serveGroups(t)
	reader := credentials{uid: nobody, gid: readersGID}
	if status, e := ask(t, path, reader, http.MethodGet, "/v1/capture?limit=1", ""); status != http.StatusForbidden || !strings.Contains(e.Message, "may capture what packets contain") || e.Hint == "" {
		t.Errorf("capture: %d, %+v", status, e)
	}
	if status, e := ask(t, path, reader, http.MethodGet, "/v1/trace?limit=1", ""); status != http.StatusOK {
		t.Errorf("trace: %d, %+v", status, e)
	}
	if status, e := ask(t, path, credentials{uid: nobody, gid: changersGID}, http.MethodGet, "/v1/capture?limit=1", ""); status != http.StatusOK {
		t.Errorf("capture by the group that may change: %d, %+v", status, e)
	}
	if got := text.String(); !strings.Contains(got, `msg="capturing packets" uid=65534`) {
		t.Errorf("the log lacks the capture:\n%s", got)
	}
}

func FuzzParseTrace(f *testing.F) {
	f.Add("client=2001:db8::/64&peer=192.0.2.1&port=1&port=2&protocol=tcp&reason=no_route&drops=true&limit=5&snap=96")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		a, err := control.ParseTrace(v)
		if err != nil {
			return
		}
		b, err := control.ParseTrace(a.Values())
		if err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%q becomes %+v, and that becomes %+v, %v", s, a, b, err)
		}
	})
}
