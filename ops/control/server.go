package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// route is one entry of the API.
type route struct {
	method, path string
	handle       func(*server, http.ResponseWriter, *http.Request)
}

// routes is the whole API. The client uses the same paths.
var routes = []route{
	{"GET", "/v1/version", show(func(b Backend) any { return b.Version() })},
	{"GET", "/v1/status", show(func(b Backend) any { return b.Status() })},
	{"GET", "/v1/health", showHealth},
	{"GET", "/v1/stats", show(func(b Backend) any { return list(b.Stats()) })},
	{"GET", "/v1/pool6", show(func(b Backend) any { return list(b.Pool6()) })},
	{"GET", "/v1/pool4", show(func(b Backend) any { return list(b.Pool4()) })},
	{"GET", "/v1/pool4/usage", pool4Usage},
	{"GET", "/v1/clients", clients},
	{"POST", "/v1/pool4/add", change(Backend.AddPool4)},
	{"POST", "/v1/pool4/remove", change(Backend.RemovePool4)},
	{"POST", "/v1/pool4/flush", act(Backend.FlushPool4)},
	{"POST", "/v1/pool6/add", change(Backend.AddPool6)},
	{"POST", "/v1/pool6/remove", change(Backend.RemovePool6)},
	{"GET", "/v1/address", query("address", address)},
	{"POST", "/v1/bindings/add", change(Backend.AddBinding)},
	{"POST", "/v1/bindings/remove", change(Backend.RemoveBinding)},
	{"GET", "/v1/config", query("key", Backend.GetConfig)},
	{"POST", "/v1/config/set", change(Backend.SetConfig)},
	{"POST", "/v1/reload", act(Backend.Reload)},
	{"POST", "/v1/pause", act(nothing(Backend.Pause))},
	{"POST", "/v1/resume", act(nothing(Backend.Resume))},
	{"GET", "/v1/explain", explain},
	{"GET", "/v1/trace", trace},
	{"GET", "/v1/capture", capture},
	{"GET", "/v1/doctor", examine},
	{"POST", "/v1/doctor/hosts", examineHosts},
	{"POST", "/v1/support", support},
	{"GET", "/v1/bindings", stream(Backend.Bindings, bindingFilters, bindingOrders)},
	{"GET", "/v1/bindings/count", tally(countBindings, bindingFilters)},
	{"GET", "/v1/sessions", stream(Backend.Sessions, sessionFilters, sessionOrders)},
	{"GET", "/v1/sessions/count", tally(Backend.CountSessions, sessionFilters)},
	{"GET", "/v1/sessions/follow", follow},
	{"POST", "/v1/sessions/remove", change(func(b Backend, c SessionChange) (r SessionResult, err error) {
		f, err := c.Filter()
		if err != nil {
			return r, err
		}
		return b.RemoveSessions(f)
	})},
}

// server answers requests with the results of the Backend and the Names.
type server struct {
	backend Backend
	names   Names
	log     *slog.Logger
	mux     *http.ServeMux
}

// NewServer returns a handler for the API of a Backend and Names, either of which may be nil. It logs changes. The
// handler is safe for concurrent use. It refuses requests that the Listener of Serve does not permit to the client.
func NewServer(b Backend, n Names, log *slog.Logger) http.Handler {
	s := &server{backend: b, names: n, log: log, mux: http.NewServeMux()}
	var served []route
	if b != nil {
		served = append(served, routes...)
	}
	if n != nil {
		served = append(served, nameRoutes...)
	}
	if b == nil {
		served = append(served, aloneRoutes...)
	}
	for _, r := range served {
		s.mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, q *http.Request) { r.handle(s, w, q) })
		s.mux.HandleFunc(r.path, func(w http.ResponseWriter, q *http.Request) {
			w.Header().Set("Allow", r.method)
			refuse(w, http.StatusMethodNotAllowed, &Error{Message: q.Method + " is not what this is for", Hint: "use " + r.method})
		})
	}
	begin := "begin with /v1/status"
	if b == nil {
		begin = "this is DNS64 alone: nat64ctl dns64, stats and version are for it"
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, q *http.Request) {
		refuse(w, http.StatusNotFound, &Error{Message: "there is nothing at " + q.URL.Path, Hint: begin})
	})
	return permitted(s.mux, log)
}

// Recovered returns a handler that answers a request whose handler h panics with an error, and calls panicked with the request
// and the recovered value while the stack is that of the panic.
func Recovered(h http.Handler, panicked func(where string, value any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			switch value := recover(); value {
			case nil:
			case http.ErrAbortHandler:
				panic(value)
			default:
				panicked("request "+r.Method+" "+r.URL.Path, value)
				refuse(w, http.StatusInternalServerError, &Error{Message: "nat64d panicked while it handled this request", Hint: "see its log, and report it"})
			}
		}()
		h.ServeHTTP(w, r)
	})
}

// stopGrace is how long Serve waits for pending requests when it stops.
const stopGrace = time.Second

// Serve answers requests on l until ctx is done. It then ends listings, completes short requests and closes l. It
// limits the connections of clients and the time and size of each request and answer.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	return serve(ctx, l, h, usualLimits)
}

func serve(ctx context.Context, l net.Listener, h http.Handler, m limits) error {
	few := &limited{Listener: l, limits: m}
	if socket, ok := l.(*Listener); ok {
		few.gate = &socket.gate
	}
	s := &http.Server{
		Handler:           received(h, m.request),
		BaseContext:       func(net.Listener) context.Context { return context.WithValue(ctx, listingTime{}, m.listing) },
		ConnContext:       withPeer,
		ConnState:         few.state,
		ReadHeaderTimeout: m.request, // not ReadTimeout, which would cancel the context of a long listing
		IdleTimeout:       m.idle,
		MaxHeaderBytes:    16 << 10,
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer cancel()
		if s.Shutdown(grace) != nil {
			s.Close() // closes connections whose client does not read
		}
	})
	err := s.Serve(few)
	if !stop() {
		<-stopped
	}
	if ctx.Err() != nil && errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control: %w", err)
}

// received reads the whole body before it calls h, and refuses a request whose body is too large or too slow. An
// http.Server alone waits indefinitely for a body that its handler does not read.
func received(h http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 { // -1: unknown length
			conn := http.NewResponseController(w)
			_ = conn.SetReadDeadline(time.Now().Add(within)) // fails only if the client has closed the connection
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
			if err != nil {
				w.Header().Set("Connection", "close")
				refuse(w, http.StatusBadRequest, badBody(err, "all of it at once"))
				return
			}
			_ = conn.SetReadDeadline(time.Time{})
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		h.ServeHTTP(w, r)
	})
}

// show returns a handler that answers with the result of value.
func show(value func(Backend) any) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, value(s.backend))
	}
}

// showHealth answers with the status 503 unless nat64d is ready, for probes that look no further.
func showHealth(s *server, w http.ResponseWriter, _ *http.Request) {
	st, code := s.backend.Status(), http.StatusOK
	h := st.Health()
	if !h.Ready {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, h)
}

// address parses the parameter of an address request.
func address(b Backend, text string) ([]AddressPair, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return nil, &Error{Message: fmt.Sprintf("%q is not an address", text), Hint: "use one such as 192.0.2.1 or 64:ff9b::192.0.2.1"}
	}
	return b.Address(a)
}

// mostClients is the number of clients that a request can ask for.
const mostClients = 1000

// pool4Usage answers with the use of pool4 and some clients: 5, or as many as the parameter clients says.
func pool4Usage(s *server, w http.ResponseWriter, r *http.Request) {
	n, err := number(r, "clients", 5)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	u := s.backend.Pool4Usage(n)
	u.Pool4, u.Clients = list(u.Pool4), list(u.Clients)
	answer(w, http.StatusOK, u)
}

// clients answers with the clients that use most of something.
func clients(s *server, w http.ResponseWriter, r *http.Request) {
	q := ClientQuery{By: cmp.Or(r.URL.Query().Get("sort"), ClientOrders[0])}
	var err error
	if q.Limit, err = number(r, "limit", 20); err == nil && !slices.Contains(ClientOrders, q.By) {
		err = &Error{Message: fmt.Sprintf("cannot sort clients by %q", q.By), Hint: "use " + strings.Join(ClientOrders, ", ")}
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	l := s.backend.Clients(q)
	l.Clients = list(l.Clients)
	answer(w, http.StatusOK, l)
}

// number returns the value of a parameter that is a number of clients.
func number(r *http.Request, parameter string, otherwise int) (int, error) {
	text := r.URL.Query().Get(parameter)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > mostClients {
		return 0, &Error{Message: fmt.Sprintf("%s %q is wrong", parameter, text), Hint: fmt.Sprintf("use 0 to %d", mostClients)}
	}
	return n, nil
}

// list returns an empty list instead of nil, which JSON would encode as null.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// query returns a handler that answers with the rows for one optional parameter.
func query[T any](parameter string, rows func(Backend, string) ([]T, error)) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		l, err := rows(s.backend, r.URL.Query().Get(parameter))
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err)
			return
		}
		answer(w, http.StatusOK, list(l))
	}
}

// change returns a handler that makes a change and answers with its result.
func change[C changing, R any](do func(Backend, C) (R, error)) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		c, err := decodeChange[C](r.Body)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		result, err := do(s.backend, c)
		s.done(w, r, result, err, c.attrs()...)
	}
}

// act returns a handler for an action without arguments.
func act[T any](do func(Backend) (T, error)) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		result, err := do(s.backend)
		s.done(w, r, result, err)
	}
}

// nothing adapts an action without a result to one whose result is an empty object.
func nothing(do func(Backend) error) func(Backend) (struct{}, error) {
	return func(b Backend) (struct{}, error) { return struct{}{}, do(b) }
}

// done answers a request for a change and logs it with the client.
func (s *server) done(w http.ResponseWriter, r *http.Request, result any, err error, what ...slog.Attr) {
	what = append(append(what, slog.String("request", r.URL.Path)), client(r).attrs()...)
	if err != nil {
		s.log.LogAttrs(r.Context(), slog.LevelWarn, "request refused", append(what, slog.Any("error", err))...)
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "request done", what...)
	answer(w, http.StatusOK, result)
}

// refuse answers with an error.
func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, asError(err))
}

// asError returns the JSON form of an error: its whole text, and the hint of an *Error in its chain.
func asError(err error) *Error {
	e := &Error{Message: err.Error()}
	var inner *Error
	if errors.As(err, &inner) {
		e.Hint = inner.Hint
	}
	return e
}

// answer writes a value. It ignores write errors, which mean that the client has closed the connection.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
