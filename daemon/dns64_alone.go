//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/nexthop"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
)

// DNS64 is the DNS64 forwarder of a configuration without the gateway. Reload is safe for concurrent use; Run may be
// called once.
type DNS64 struct {
	options Options
	conf    *config.Config
	log     *logs
	panics  *gateway.Panics
	routes  *nexthop.Table // nil: the clients do not depend on routes
	service *dns64Service
	begin   chan *nexthop.Table // routes that begin to matter, once at most
	moved   event               // the routes have changed
	reloads event               // requests a reload
	summary event               // requests a summary in the log
}

// standalone adds the counters of the process, which a gateway reports in its statistics.
type standalone struct {
	*dns64Service
	log    *logs
	panics *gateway.Panics
}

// Counters implements control.Names.
func (n standalone) Counters() []control.Counter {
	panics, _ := n.panics.Count()
	return countersOf(append(n.samples(), n.log.sample(), metrics.PanicsSurvived.With(panics), buildInfo(n.version)))
}

// NewDNS64 reads the configuration.
func NewDNS64(o Options) (*DNS64, error) {
	o.Overrides.DNS64 = true
	a := &DNS64{options: o, begin: make(chan *nexthop.Table, 1), moved: newEvent(), reloads: newEvent(), summary: newEvent()}
	var err error
	if a.conf, err = o.load(); err != nil {
		return nil, err
	}
	a.log = newLogs(a.conf.Log, o.Log)
	a.panics = gateway.NewPanics(a.log.Logger, endAtOnce)
	a.log.recordPanics(a.panics)
	return a, nil
}

// Reload makes the forwarder read its configuration again; the log contains the result.
func (a *DNS64) Reload() { a.reloads.signal() }

// Summarize writes a summary of the queries to the log, as SIGUSR1 asks for.
func (a *DNS64) Summarize() { a.summary.signal() }

// Run runs the forwarder until ctx is done. Its error includes a hint for the operator.
func (a *DNS64) Run(ctx context.Context) error {
	err := a.serve(ctx)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w. DNS64 alone takes CAP_NET_BIND_SERVICE for ports below 1024, and a folder that this user may write to "+
			"for its control socket (--socket)", err)
	}
	return err
}

// Logger returns the forwarder's log.
func (a *DNS64) Logger() *slog.Logger { return a.log.Logger }

func (a *DNS64) serve(ctx context.Context) error {
	l, err := listenControl(a.conf)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := checkZones(nil, a.conf); err != nil {
		return err
	}
	if err := a.mirrorRoutes(a.conf); err != nil {
		return err
	}
	if a.service, err = newDNS64Service(a.basis(), a.options.Version, a.log.Logger, a.panics); err != nil {
		return err
	}
	defer a.service.close()
	return a.run(ctx, l)
}

// run runs the tasks until ctx is done or one fails.
func (a *DNS64) run(ctx context.Context, listener net.Listener) error {
	a.confine()
	server := control.Recovered(control.NewServer(nil, standalone{a.service, a.log, a.panics}, a.log.Logger), a.panics.Aside)
	_, _ = systemd.SdNotify(false, systemd.SdNotifyReady) // fails if there is no service manager
	return runTasks(ctx, []task{
		{name: "routes", run: a.runRoutes},
		{name: "DNS64", run: a.service.run},
		{name: "control socket", run: func(ctx context.Context) error { return control.Serve(ctx, listener, server) }},
		{name: "reload", run: a.follow},
	}, a.panics)
}

// runRoutes follows the kernel's routes as soon as they matter.
func (a *DNS64) runRoutes(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case t := <-a.begin:
		return t.Run(ctx)
	}
}

// follow has the forwarder follow the routes and, after Reload, the configuration, until ctx is done.
func (a *DNS64) follow(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.summary:
			t := a.service.f.Stats.Totals()
			a.log.Info("summary: DNS64", "cache_hits", t.CacheHits, "cache_misses", t.CacheMisses, "synthesized", t.Synthesized, "denied", t.Denied,
				"rate_limited", t.RateLimited, "busy", t.Busy)
			continue
		case <-a.moved:
		case <-a.reloads:
			if err := a.reload(); err != nil {
				a.log.Error("cannot reload, the configuration is unchanged", "error", err)
				continue
			}
		}
		a.service.follow(a.basis())
	}
}

// reload reads the configuration again and applies it.
func (a *DNS64) reload() error {
	next, err := a.options.load()
	if err != nil {
		return err
	}
	changes := config.Diff(a.conf, next)
	for _, c := range changes {
		if !c.Live && strings.HasPrefix(c.Name, "dns64.") {
			return fmt.Errorf("%s changed from %s to %s, which needs a restart", c.Name, c.Old, c.New)
		}
	}
	if err := checkZones(a.conf, next); err != nil {
		return err
	}
	if err := a.mirrorRoutes(next); err != nil {
		return err
	}
	a.conf = next
	a.log.level.Set(levelOf(next.Log))
	logChanges(a.log.Logger, changes)
	return nil
}

// basis returns the input for the forwarder's configuration. Its pool is that of the file, because changes in a
// running gateway are not known here.
func (a *DNS64) basis() basis {
	b := basis{conf: a.conf}
	for _, e := range a.conf.Pool4 {
		b.pool4 = append(b.pool4, e.Addr)
	}
	if a.routes != nil {
		b.routed = a.routes.Behind6()
	}
	return b
}

// routesFor returns the kernel's routes if the clients of a configuration depend on them.
func (a *DNS64) mirrorRoutes(c *config.Config) (err error) {
	if a.routes != nil || len(c.DNS64.Clients) > 0 || len(c.AllowV6) > 0 {
		return nil
	}
	nic := c.Interfaces.V6.Name
	if nic == "" {
		return errors.New("no clients: set dns64.clients, allow_v6 or the name of the v6 interface")
	}
	if a.routes, err = nexthop.New(nexthop.Interfaces{V6: nic, V4: nic}, nexthop.ARPOff, a.log.Logger); err != nil {
		return err
	}
	a.routes.OnSurroundings(a.moved.signal)
	a.begin <- a.routes
	return nil
}
