package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nat64d/ops/control"
	"nat64d/ops/web"
)

// made is a source with made figures.
type made struct{ dns64 bool }

func (made) Status() control.Status {
	return control.Status{Ready: true, Uptime: control.Seconds(time.Hour), Pool6: []string{"64:ff9b::/96"},
		Protocols: []control.Protocol{{Protocol: "tcp", Sessions: 7, Pool4Ports: 1000, Pool4Used: 600}, {Protocol: "udp", Pool4Ports: 1000, Pool4Used: 5}},
		Traffic:   []control.Traffic{{Direction: "6to4", Packets: 11}, {Direction: "4to6", Packets: 12}}, Drops: 3}
}
func (made) Stats() []control.Counter    { return []control.Counter{{Name: "nat64_sessions", Value: 7}} }
func (made) Pool4() []control.Pool4Entry { return []control.Pool4Entry{{Used: 600}} }
func (made) Clients(q control.ClientQuery) control.ClientList {
	return control.ClientList{Total: q.Limit, Clients: []control.ClientUse{{Client: netip.MustParseAddr("2001:db8::8"), Ports: 600}}}
}
func (m made) DNS64() (control.DNS64Status, error) {
	if !m.dns64 {
		return control.DNS64Status{}, errors.New("DNS64 is off")
	}
	return control.DNS64Status{Cached: 9}, nil
}

func get(t *testing.T, h http.Handler, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
	r.Host = host
	h.ServeHTTP(w, r)
	return w
}

// The page needs nothing from another host, and its documents are those of nat64ctl.
func TestPage(t *testing.T) {
	t.Parallel()
	s := web.New(made{})
	for path, want := range map[string]string{
		"/": `src="page.js"`, "/page.js": "EventSource", "/style.css": "prefers-color-scheme", "/icon.svg": "<svg",
		"/v1/status": `"ready":true`, "/v1/stats": `"name":"nat64_sessions"`, "/v1/pool4": `"used":600`, "/v1/clients": `"client":"2001:db8::8"`, "/v1/history": `[]`,
	} {
		w := get(t, s, "127.0.0.1:9465", path)
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: code %d, %.200q", path, w.Code, w.Body)
		}
		for _, other := range []string{"https://", "http://"} {
			if text := strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", ""); strings.Contains(text, other) {
				t.Errorf("%s refers to another host", path)
			}
		}
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	if w := get(t, s, "localhost", "/v1/dns64"); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "DNS64 is off") {
		t.Errorf("without DNS64: code %d, %q", w.Code, w.Body)
	}
	if w := get(t, s, "localhost", "/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("an unknown path: code %d", w.Code)
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("POST", "/v1/status", strings.NewReader("{}"))
	r.Host = "localhost"
	if s.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: code %d", w.Code)
	}
}

// A page whose name is made to resolve to the gateway cannot read anything.
func TestOtherNamesAreRefused(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:9465": 200, "[::1]:9465": 200, "[2001:db8::1]": 200, "localhost:9465": 200, "": 200,
		"evil.example": 403, "evil.example:9465": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:80": 403,
	} {
		if w := get(t, web.New(made{}), host, "/v1/status"); w.Code != want {
			t.Errorf("host %q: code %d, want %d", host, w.Code, want)
		}
	}
}

// An open page gets its figures at once and then every second, and its stream ends with the daemon.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := web.New(made{dns64: true})
	server := httptest.NewServer(s)
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, func() bool { return false }) }()
	answer, err := http.Get(server.URL + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	seen := map[string]int{}
	for seen["status"] < 2 && lines.Scan() {
		name, found := strings.CutPrefix(lines.Text(), "event: ")
		if !found {
			continue
		}
		lines.Scan()
		if seen[name]++; !json.Valid([]byte(strings.TrimPrefix(lines.Text(), "data: "))) {
			t.Errorf("%s: %q", name, lines.Text())
		}
	}
	for _, name := range []string{"status", "stats", "pool4", "clients", "dns64"} {
		if seen[name] < 1 {
			t.Errorf("no event %s", name)
		}
	}
	cancel()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if w := get(t, s, "localhost", "/v1/events"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("after the end: code %d", w.Code)
	}
}

// The history has the samples of the last hour, oldest first.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := web.New(made{})
		ctx, cancel := context.WithCancel(t.Context())
		go s.Run(ctx, func() bool { return false })
		time.Sleep(2*time.Hour + time.Second)
		cancel()
		synctest.Wait()
		var list []web.Sample
		if err := json.Unmarshal(get(t, s, "localhost", "/v1/history").Body.Bytes(), &list); err != nil {
			t.Fatal(err)
		}
		if len(list) != 360 {
			t.Fatalf("%d samples, want 360", len(list))
		}
		first, last := list[0], list[359]
		if last.Time-first.Time != 3590 || last.Used != 605 || last.Ports != 2000 || last.Sessions != 7 || last.Drops != 3 || last.Packets6 != 11 || last.Packets4 != 12 {
			t.Errorf("from %+v to %+v", first, last)
		}
	})
}
