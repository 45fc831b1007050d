package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

func TestResponsesRoundTrip(t *testing.T) {
	t.Parallel()
	m := &memory{}
	c := start(t, m)
	ctx := t.Context()
	status, err := c.Status(ctx)
	if err != nil || status.Drops != 1<<64-1 || status.Uptime != m.Status().Uptime || status.PID != 7 {
		t.Errorf("status %+v, %v", status, err)
	}
	if v, err := c.Version(ctx); err != nil || v != m.Version() {
		t.Errorf("version %v, %v", v, err)
	}
	if p, err := c.Pool6(ctx); err != nil || len(p) != 1 || p[0] != m.Pool6()[0] {
		t.Errorf("pool6 %v, %v", p, err)
	}
	if p, err := c.Pool4(ctx); err != nil || p == nil || len(p) != 0 {
		t.Errorf("empty pool4 %v, %v", p, err)
	}
	if s, err := c.Stats(ctx); err != nil || len(s) != 1 || s[0].Value != 1<<64-1 || s[0].Labels["reason"] != "hop_limit" {
		t.Errorf("stats %v, %v", s, err)
	}
	var got []control.Session
	if err := c.Sessions(ctx, control.Filter{}, func(s control.Session) error { got = append(got, s); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0].Peer6 != netip.MustParseAddrPort("[64:ff9b::c633:6407]:443") || got[0].Expires != control.Seconds(1500*time.Millisecond) {
		t.Errorf("sessions %+v", got)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	m := &memory{}
	c := start(t, m)
	ctx := t.Context()
	change := control.Pool4Change{Addresses: "192.0.2.1", Ports: "7000-8000", Protocols: []string{"tcp"}, Force: true}
	if r, err := c.AddPool4(ctx, change); err != nil || len(r.Added) != 1 || r.Added[0].Ports != "7000-8000" {
		t.Errorf("add %+v, %v", r, err)
	}
	if len(m.changes) != 1 || m.changes[0].Addresses != "192.0.2.1" || !m.changes[0].Force {
		t.Errorf("the backend received %+v", m.changes)
	}
	if r, err := c.FlushPool4(ctx); err != nil || r.Bindings != 2 || r.Sessions != 3 {
		t.Errorf("flush %+v, %v", r, err)
	}
	if err := c.Pause(ctx); err != nil || !m.Status().Paused {
		t.Errorf("pause: %v", err)
	}
	if err := c.Resume(ctx); err != nil || m.Status().Paused {
		t.Errorf("resume: %v", err)
	}
}

func TestRefusalIncludesHint(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	var refused *control.Error
	if _, err := c.AddPool4(t.Context(), control.Pool4Change{Ports: "0"}); !errors.As(err, &refused) || *refused != (control.Error{Message: "pool4: port 0"}) {
		t.Errorf("add: %v", err)
	}
	if _, err := c.RemovePool4(t.Context(), control.Pool4Change{}); !errors.As(err, &refused) || *refused != (control.Error{Message: "not there", Hint: "look at the list"}) {
		t.Errorf("remove: %v", err)
	}
	if _, err := c.AddPool4(t.Context(), control.Pool4Change{Protocols: []string{"sctp"}}); !errors.As(err, &refused) || refused.Hint != "use tcp, udp or icmp" {
		t.Errorf("protocol: %v", err)
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 9})
	tests := []struct {
		f    control.Filter
		want int
	}{
		{control.Filter{}, 9},
		{control.Filter{Limit: 4}, 4},
		{control.Filter{Limit: 9}, 9},
		{control.Filter{Limit: 10}, 9},
		{control.Filter{Protocols: []string{"udp"}}, 3},
		{control.Filter{Protocols: []string{"udp", "tcp"}, Limit: 5}, 5},
		{control.Filter{Client: netip.MustParsePrefix("2001:db8::/64")}, 9},
		{control.Filter{Client: netip.MustParsePrefix("2001:db8:1::/64")}, 0},
	}
	for _, tt := range tests {
		n := 0
		err := c.Bindings(t.Context(), tt.f, func(control.Binding) error { n++; return nil })
		if err != nil || n != tt.want {
			t.Errorf("%+v gave %d bindings (%v), want %d", tt.f, n, err, tt.want)
		}
	}
	n := 0
	peer := control.Filter{Peer: netip.MustParsePrefix("203.0.113.0/24")}
	if err := c.Sessions(t.Context(), peer, func(control.Session) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d sessions with another peer, %v", n, err)
	}
}

func TestListingStopsAtErrorOfYield(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 1 << 30}) // endless for a test
	enough := errors.New("enough")
	n := 0
	err := c.Bindings(t.Context(), control.Filter{}, func(control.Binding) error {
		if n++; n == 1000 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

func TestListingReportsBackendError(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 2, fail: &control.Error{Message: "out of order", Hint: "try again"}})
	var refused *control.Error
	err := c.Bindings(t.Context(), control.Filter{}, func(control.Binding) error { return nil })
	if !errors.As(err, &refused) || refused.Hint != "try again" {
		t.Error(err)
	}
}

// The client reports an error if the daemon stops during a listing.
func TestListingFailsWhenDaemonStops(t *testing.T) {
	t.Parallel()
	m := &memory{bindings: 3, reached: make(chan struct{})}
	path := filepath.Join(t.TempDir(), "s")
	stop := startOn(t, path, m)
	done := make(chan error, 1)
	go func() {
		c := &control.Client{Socket: path}
		done <- c.Bindings(context.Background(), control.Filter{}, func(control.Binding) error { return nil })
	}()
	<-m.reached
	stop()
	if err := <-done; !errors.Is(err, control.ErrUnreachable) || !strings.Contains(err.Error(), "broke off after 1 entries") {
		t.Errorf("error is %v", err)
	}
}

// The client reports an error if the daemon is killed during a listing.
func TestTruncatedListing(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", `{"item":{"protocol":"tcp"`, "{\"item\":{\"protocol\":\"tcp\"}}\n", "{\"end\":{\"count\":1}}\n", "{}\n"} {
		path := raw(t, func(w io.Writer) {
			fmt.Fprintf(w, "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n%s", text)
		})
		c := &control.Client{Socket: path}
		err := c.Bindings(t.Context(), control.Filter{}, func(control.Binding) error { return nil })
		if !errors.Is(err, control.ErrUnreachable) {
			t.Errorf("%q: error is %v", text, err)
		}
	}
}

// raw answers one request with the output of respond.
func raw(t *testing.T, respond func(io.Writer)) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			respond(conn)
		}
	}()
	return path
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	silent := filepath.Join(dir, "silent")
	hung, err := net.Listen("unix", silent)
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Close()
	for _, tt := range []struct{ path, want string }{
		{filepath.Join(dir, "none"), "no process listens there"},
		{stale, "no process listens there"},
		{silent, "no response within 50ms"},
		{raw(t, func(io.Writer) {}), "EOF"},
	} {
		c := &control.Client{Socket: tt.path, Timeout: 50 * time.Millisecond}
		if strings.Contains(tt.want, "EOF") {
			c.Timeout = 20 * time.Second
		}
		_, err := c.Status(t.Context())
		if !errors.Is(err, control.ErrUnreachable) || !strings.Contains(err.Error(), tt.path) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error is %v, want %s and %s", err, tt.path, tt.want)
		}
	}
	c := &control.Client{Socket: silent, Timeout: 50 * time.Millisecond}
	if err := c.Bindings(t.Context(), control.Filter{}, nil); !errors.Is(err, control.ErrUnreachable) {
		t.Errorf("listing: %v", err)
	}
}

func TestCancelledRequestReturnsContextError(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, control.ErrUnreachable) {
		t.Error(err)
	}
}

// Each request has one error, which the answer explains in JSON.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/", "", 404, "there is nothing at /"},
		{"POST", "/v1/status", "", 405, "POST is not what this is for"},
		{"GET", "/v1/pool4/add", "", 405, "GET is not what this is for"},
		{"POST", "/v1/pool4/add", "", 400, "cannot read the request: EOF"},
		{"POST", "/v1/pool4/add", "{", 400, "cannot read the request: unexpected EOF"},
		{"POST", "/v1/pool4/add", `{"adresses":"x"}`, 400, `cannot read the request: json: unknown field "adresses"`},
		{"POST", "/v1/pool4/add", `{} {}`, 400, "unexpected data after the JSON object"},
		{"POST", "/v1/pool4/add", `{"addresses":"` + strings.Repeat("x", 70000) + `"}`, 400, "the request is larger than 65536 bytes"},
		{"POST", "/v1/pool6/add", `{"prefix":1}`, 400, "cannot read the request: json: cannot unmarshal number into Go struct field Pool6Change.prefix of type string"},
		{"POST", "/v1/bindings/add", "{}", 400, "the request names no binding"},
		{"POST", "/v1/bindings/remove", `{"protocols":["tcp","all"],"client":"x"}`, 400, `"all" is not a protocol`},
		{"POST", "/v1/config/set", `{"value":"x"}`, 400, "the request names no key"},
		{"POST", "/v1/config", "", 405, "POST is not what this is for"},
		{"GET", "/v1/config?key=a%26b%3Dc", "", 422, "unknown key a&b=c"},
		{"GET", "/v1/address?address=fe80::1%25eth0", "", 422, `"fe80::1%eth0" is not an address`},
		{"GET", "/v1/reload", "", 405, "GET is not what this is for"},
		{"GET", "/v1/bindings?limit=x", "", 400, `limit "x" is not a number`},
		{"GET", "/v1/bindings?limit=-1", "", 400, `limit "-1" is not a number`},
		{"GET", "/v1/bindings?limit=1&limit=2", "", 400, "limit is given more than once"},
		{"GET", "/v1/bindings?protocol=sctp", "", 400, `"sctp" is not a protocol`},
		{"GET", "/v1/bindings?client=192.0.2.1", "", 400, `client "192.0.2.1" is wrong`},
		{"GET", "/v1/sessions?peer=2001:db8::1", "", 400, `peer "2001:db8::1" is wrong`},
		{"GET", "/v1/sessions?ports=1", "", 400, `unknown filter "ports"`},
		{"GET", "/v1/bindings?state=TRANS", "", 400, `unknown filter "state"`},
		{"GET", "/v1/sessions?state=open", "", 400, `"open" is not a state of a TCP session`},
		{"GET", "/v1/sessions?sort=age", "", 400, `cannot sort by "age"`},
		{"GET", "/v1/sessions?sort=idle&limit=100001", "", 400, `cannot sort 100001 entries`},
		{"GET", "/v1/sessions/count?limit=1", "", 400, `unknown filter "limit"`},
		{"POST", "/v1/sessions/remove", "{}", 400, `the request selects no session`},
		{"GET", "/v1/clients?sort=name", "", 400, `cannot sort clients by "name"`},
		{"GET", "/v1/clients?limit=1001", "", 400, `limit "1001" is wrong`},
		{"GET", "/v1/pool4/usage?clients=x", "", 400, `clients "x" is wrong`},
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", c.Socket)
		},
	}}
	for _, tt := range tests {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, "http://nat64d"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
			continue
		}
		var e control.Error
		err = json.NewDecoder(a.Body).Decode(&e)
		a.Body.Close()
		if err != nil || a.StatusCode != tt.status || e.Message != tt.want {
			t.Errorf("%s %s: %d %q (%v), want %d %q", tt.method, tt.path, a.StatusCode, e.Message, err, tt.status, tt.want)
		}
	}
}

// Serve returns although a client does not read its listing.
func TestServeStopsWithStuckReader(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	stop := startOn(t, path, &memory{bindings: 1 << 30})
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /v1/bindings HTTP/1.1\r\nHost: nat64d\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket still exists")
	}
}
