// Package web serves the status page: one page that shows a running gateway, and the JSON of nat64ctl that it is made of. It
// changes nothing, and its files are part of the program. RFC 6146 requires no such page; it is our own choice.
package web

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"nat64d/ops/control"
)

// Source is what the page shows. control.Backend and control.Names have these methods, which any goroutine may call.
type Source interface {
	Status() control.Status
	Stats() []control.Counter
	Pool4() []control.Pool4Entry
	Clients(control.ClientQuery) control.ClientList
	// DNS64 returns the state of the forwarder, or an error if there is none.
	DNS64() (control.DNS64Status, error)
}

//go:embed page
var files embed.FS

// Server serves the page to any number of listeners. Run must run for the page to have live figures.
type Server struct {
	source  Source
	history history
	viewers viewers
	mux     *http.ServeMux
}

// New returns a server for a source.
func New(s Source) *Server {
	w := &Server{source: s, mux: http.NewServeMux(), viewers: viewers{opened: make(chan struct{}, 1)}}
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is in the program
	}
	w.mux.Handle("GET /", http.FileServerFS(page))
	for _, d := range documents {
		w.mux.HandleFunc("GET /v1/"+d.name, func(rw http.ResponseWriter, r *http.Request) { w.show(rw, d) })
	}
	w.mux.HandleFunc("GET /v1/events", w.stream)
	return w
}

// document is one JSON document, which nat64ctl has, too.
type document struct {
	name  string
	value func(*Server) (any, error)
}

// topClients is the number of clients that the page shows.
const topClients = 10

var documents = []document{
	{"stats", func(w *Server) (any, error) { return w.source.Stats(), nil }},
	{"status", func(w *Server) (any, error) { return w.source.Status(), nil }},
	{"pool4", func(w *Server) (any, error) { return w.source.Pool4(), nil }},
	{"clients", func(w *Server) (any, error) { return w.source.Clients(control.ClientQuery{Limit: topClients}), nil }},
	{"dns64", func(w *Server) (any, error) { return w.source.DNS64() }},
	{"history", func(w *Server) (any, error) { return w.history.all(), nil }},
}

// ServeHTTP implements http.Handler.
func (w *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	h := rw.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if !ownName(r.Host) {
		http.Error(rw, "this page is reached by an address of the machine, its host name or localhost, not as "+r.Host, http.StatusForbidden)
		return
	}
	w.mux.ServeHTTP(rw, r)
}

// ownName reports whether a request may ask for this host. A page on the Internet whose name is made to resolve to the
// gateway (DNS rebinding) could otherwise read the status in the browser of an operator.
func ownName(host string) bool {
	if host == "" || strings.HasPrefix(host, "/") { // HTTP/1.0, and a unix socket
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	if _, err := netip.ParseAddr(host); err == nil || strings.EqualFold(host, "localhost") {
		return true
	}
	own, err := os.Hostname()
	if err != nil {
		return false
	}
	short, _, _ := strings.Cut(own, ".")
	asked, _, _ := strings.Cut(host, ".")
	return strings.EqualFold(asked, short)
}

// show answers with a document.
func (w *Server) show(rw http.ResponseWriter, d document) {
	v, err := d.value(w)
	code := http.StatusOK
	if err != nil {
		v, code = &control.Error{Message: err.Error()}, http.StatusNotFound
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Cache-Control", "no-store")
	rw.WriteHeader(code)
	_ = json.NewEncoder(rw).Encode(v) // an error means that the client is gone
}

// every is the interval of the live figures, and sampleEvery that of the history.
const (
	every       = time.Second
	sampleEvery = 10 * time.Second
)

// Run collects the history, unless the page is off, and the live figures while it is open somewhere, until ctx is done.
func (w *Server) Run(ctx context.Context, off func() bool) error {
	sample, live := time.NewTicker(sampleEvery), time.NewTicker(every)
	defer sample.Stop()
	defer live.Stop()
	if !off() {
		w.history.add(w.source, time.Now())
	}
	for {
		select {
		case <-ctx.Done():
			w.viewers.close()
			return nil
		case now := <-sample.C:
			if !off() {
				w.history.add(w.source, now)
			}
		case <-w.viewers.opened:
			live.Reset(every)
		case <-live.C:
			if w.viewers.any() {
				w.viewers.send(w.events())
			} else {
				live.Stop()
			}
		}
	}
}
