package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"nat64d/ops/control"
)

// fewNames is a Names that knows one name.
type fewNames struct{}

var _ control.Names = fewNames{}

func (fewNames) Version() control.Version { return control.Version{Version: "v1"} }
func (fewNames) Counters() []control.Counter {
	return []control.Counter{{Name: "dns64_cache_hits", Value: 7}}
}

func (fewNames) DNS64() (control.DNS64Status, error) {
	return control.DNS64Status{}, &control.Error{Message: "DNS64 is off", Hint: "switch it on"}
}

func (fewNames) DNS64Cache() ([]control.DNS64Cached, error) { return nil, nil }
func (fewNames) FlushDNS64() (control.DNS64Flushed, error) {
	return control.DNS64Flushed{Forgotten: 7}, nil
}
func (fewNames) Snippet(server string) (control.DNS64Snippet, error) {
	return control.DNS64Snippet{Server: server, Text: "text"}, nil
}

func (fewNames) QueryDNS64(_ context.Context, q control.DNS64Query) (control.DNS64Answer, error) {
	if q != (control.DNS64Query{Name: "h.example.net", Type: "A", Client: netip.MustParseAddr("2001:db8::8")}) {
		return control.DNS64Answer{}, errors.New("unexpected query")
	}
	return control.DNS64Answer{Result: "NOERROR"}, nil
}

// Without a Backend the server has the routes of the forwarder, and no others.
func TestServerWithoutBackend(t *testing.T) {
	t.Parallel()
	h := control.NewServer(nil, fewNames{}, slog.New(slog.DiscardHandler))
	for _, row := range []struct {
		method, path, want string
		code               int
	}{
		{"GET", "/v1/dns64", "DNS64 is off", 422},
		{"GET", "/v1/dns64/cache", "[]", 200},
		{"POST", "/v1/dns64/flush", `"forgotten":7`, 200},
		{"GET", "/v1/dns64/query?name=h.example.net&type=A&client=2001:db8::8", "NOERROR", 200},
		{"GET", "/v1/dns64/query?name=h.example.net&client=x", "client x is not an address", 422},
		{"GET", "/v1/dns64/snippet?server=bind", `"text"`, 200},
		{"GET", "/v1/version", `"version":"v1"`, 200},
		{"GET", "/v1/stats", `"dns64_cache_hits"`, 200},
		{"GET", "/v1/status", "this is DNS64 alone", 404},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(row.method, row.path, nil))
		if body := strings.ReplaceAll(w.Body.String(), " ", ""); w.Code != row.code || !strings.Contains(body, strings.ReplaceAll(row.want, " ", "")) {
			t.Errorf("%s %s: got %d %s", row.method, row.path, w.Code, w.Body)
		}
	}
}

// A handler that panics answers with an error, and the next request is answered.
func TestRecoveredAnswersAfterPanic(t *testing.T) {
	t.Parallel()
	calls, where := 0, ""
	h := control.Recovered(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 1 {
			panic("a bug in a handler")
		}
		w.WriteHeader(http.StatusNoContent)
	}), func(in string, _ any) { where = in })
	for _, want := range []int{http.StatusInternalServerError, http.StatusNoContent} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/status", nil))
		if w.Code != want {
			t.Errorf("status %d, want %d: %s", w.Code, want, w.Body)
		}
	}
	if where != "request GET /v1/status" {
		t.Errorf("panic in %q", where)
	}
}
