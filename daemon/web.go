//go:build linux

package daemon

import (
	"context"
	"net/http"

	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/ops/web"
)

// webService is the status page and the HTTP server for it.
type webService struct {
	*httpService
	page *web.Server
}

// webSource is what the page shows.
type webSource struct {
	*backend
	*dns64Service
}

// Stats has the counters of the gateway and of DNS64.
func (s webSource) Stats() []control.Counter { return s.backend.Stats() }

// newWebService opens the sockets of web.listen.
func (d *Daemon) newWebService() *webService {
	page := web.New(webSource{&backend{Daemon: d}, d.dns64})
	m := http.NewServeMux()
	m.Handle("/", page)
	m.HandleFunc("GET /healthz", probe(d.stuck))
	m.HandleFunc("GET /readyz", probe(d.readiness.reasons))
	s := &webService{page: page, httpService: &httpService{
		key: "web.listen", where: func() config.Listen { return d.config().Web }, group: func() string { return d.config().Group },
		handler: control.Recovered(m, d.panics.Aside), log: d.log.Logger, panics: d.panics, changed: newEvent(),
	}}
	s.open()
	return s
}

// run serves the page until ctx is done.
func (s *webService) run(ctx context.Context) error {
	figures := func(ctx context.Context) error { return s.page.Run(ctx, func() bool { return s.where().Off() }) }
	return runTasks(ctx, []task{{name: "figures", run: figures}, {name: "server", run: s.httpService.run}}, s.panics)
}
