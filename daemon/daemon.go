//go:build linux

// Package daemon builds the components of nat64d from a configuration, runs them as tasks, and applies changes of the
// configuration completely or not at all. It handles neither signals nor the command line, so a test can start a
// gateway like cmd/nat64d does.
//
// Daemon.serve starts and stops everything, Daemon.tasks lists the running tasks, Daemon.reload handles SIGHUP, and
// Daemon.change applies another configuration.
package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/nexthop"
	"nat64d/ops/control"
	"nat64d/pool4"
)

// Options are the parameters of a Daemon or a DNS64.
type Options struct {
	File      string           // the configuration file; empty: only Overrides
	Overrides config.Overrides // settings from the command line
	Log       *LogQueue        // receives the log; the caller closes it after Run, so that it can write the error of Run first
	Version   control.Version  // shown by nat64ctl
	Confine   bool             // give up privileges of the whole process after the start
	Fresh     bool             // start without the sessions and changes that an earlier process has left
}

// load reads the configuration.
func (o *Options) load() (*config.Config, error) { return config.Load(o.File, o.Overrides) }

// Daemon is a NAT64 gateway with its surrounding services. Reload is safe for concurrent use; Run may be called once.
type Daemon struct {
	options Options
	conf    atomic.Pointer[config.Config] // the configuration in use
	log     *logs
	panics  *gateway.Panics
	started time.Time

	landlock int // version of Landlock that restricts the files; 0: none

	routes     *nexthop.Table
	pool       *pool4.Pool
	ports      *ports
	processors *processors
	gateway    *gateway.Gateway
	guard      *hostGuard
	dns64      *dns64Service
	metrics    *httpService
	web        *webService
	readings   readings
	crowd      crowd
	reloads    reloads
	nics       nics
	pairs      pairs
	sockets    hostSockets
	kept       keeping
	selfTest   selfTest
	shortage   shortage
	memory     *memory
	probes     probes
	clients    clientsInUse
	followers  followers

	events    events
	readiness readiness
	admin     admin
}

// events are the events that tasks wait for.
type events struct {
	link   event // an interface was created, deleted or changed
	routes event // the kernel's routes or addresses have changed
	pool4  event // pool4 or static rows have changed
	reload event // requests a reload
	load   event // many packets arrive
	probe  event // health.probe may have changed
	uplink event // the IPv4 default route may have moved
	pairs  event // the surroundings of pairs may have changed

	summary event // requests a summary in the log
}

// admin is the state shared by changes of pool4, static rows and the configuration. The mutex is held during a whole
// change.
type admin struct {
	sync.Mutex
	static   rows
	local    localRoutes
	followed atomic.Pointer[following] // changed by the holder of the mutex
}

// New reads the configuration. It does not change anything outside of the process.
func New(o Options) (*Daemon, error) {
	d := &Daemon{
		options: o, started: time.Now(),
		events:    events{link: newEvent(), routes: newEvent(), pool4: newEvent(), reload: newEvent(), load: newEvent(), probe: newEvent(), pairs: newEvent(), uplink: newEvent(), summary: newEvent()},
		readiness: readiness{reached: make(chan struct{})},
		admin:     admin{static: rows{}},
	}
	d.admin.followed.Store(&following{})
	c, err := o.load()
	if err != nil {
		return nil, withHint(err)
	}
	d.conf.Store(c)
	d.reloads.note(nil)
	d.log = newLogs(c.Log, o.Log)
	d.panics = gateway.NewPanics(d.log.Logger, endAtOnce)
	d.log.recordPanics(d.panics)
	return d, nil
}

// Run runs the gateway until ctx is done, and cleans up. Its error includes a hint for the operator.
func (d *Daemon) Run(ctx context.Context) error { return withHint(d.serve(ctx)) }

// Reload makes the daemon read its configuration again; the log contains the result. A call before Run serves takes
// effect when it does.
func (d *Daemon) Reload() { d.events.reload.signal() }

// Ready returns a channel that is closed when packets can be translated for the first time.
func (d *Daemon) Ready() <-chan struct{} { return d.readiness.reached }

// Logger returns the daemon's log.
func (d *Daemon) Logger() *slog.Logger { return d.log.Logger }

// serve starts everything, runs the tasks and stops everything in reverse order. The guard is in place before the first packet is
// taken from a socket and until the last socket is closed: in between, the host would answer packets of pool4 with resets.
func (d *Daemon) serve(ctx context.Context) (err error) {
	if err := d.awaitUplink(ctx); err != nil {
		return err
	}
	c := d.config()
	raiseGOMAXPROCS(&c.Interfaces)
	listener, err := listenControl(c)
	if err != nil {
		return err
	}
	defer listener.Close()
	lock, err := d.lockNICs()
	if err != nil {
		return err
	}
	defer lock.release()
	defer d.closeState()
	if err := d.openState(c); err != nil {
		return err
	}
	if err := d.makePairs(c); err != nil {
		return err
	}
	if err := d.preparePorts(); err != nil {
		return err
	}
	defer d.ports.closeEarly()
	if err := d.build(); err != nil {
		return err
	}
	defer d.dns64.close()
	d.metrics = d.newMetricsService()
	defer d.metrics.close()
	d.web = d.newWebService()
	defer d.web.close()
	if err := d.guard.lockNamespace(); err != nil {
		return err
	}
	handover := func() time.Duration { return 0 } // a failed start leaves nothing
	defer func() { err = errors.Join(err, d.endPairs(handover()), d.endGuard(handover())) }()
	if err := d.settleGuardLocked(); err != nil {
		return err
	}
	defer d.ports.screens.Close()
	defer d.gateway.Close()
	if err := d.gateway.Open(); err != nil {
		return err
	}
	if err := d.prepareNICs(); err != nil {
		return err
	}
	defer func() {
		if handover() == 0 { // otherwise the next process takes the settings over
			d.putBackNICs()
		}
	}()
	d.processors.nics = d.nics.manager
	d.restoreFirst(ctx)
	handover = func() time.Duration { return d.config().State.Handover }
	return d.run(ctx, listener)
}

// run runs the tasks until ctx is done or one fails.
func (d *Daemon) run(ctx context.Context, listener net.Listener) error {
	d.checkPairs()
	d.routes.OnLink(func() { d.events.link.signal(); d.events.pairs.signal() })
	d.routes.OnSurroundings(func() { d.events.routes.signal(); d.events.pairs.signal(); d.events.uplink.signal() })
	d.routes.SetProxied(d.proxiedLocked())
	_ = d.guard.readNAT() // the task "readiness" logs these warnings with all others
	d.readiness.tasks = d.tasks(listener)
	d.confine()
	d.memory.warn()
	err := runTasks(ctx, d.readiness.tasks, d.panics)
	_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping)
	d.log.Info("stopped")
	return err
}

// tasks returns the tasks that run as long as the daemon.
func (d *Daemon) tasks(listener net.Listener) []task {
	server := control.Recovered(control.NewServer(&backend{Daemon: d}, d.dns64, d.log.Logger), d.panics.Aside)
	return []task{
		{name: "data path", run: d.gateway.Run, notReady: d.tablesNotReady},
		{name: "routes", run: d.routes.Run, notReady: d.routesNotReady},
		{name: "guard", run: d.guard.watch, notReady: d.guard.notReady},
		{name: "NAT rules", run: d.guard.watchNAT},
		{name: "interfaces", run: d.watchInterfaces},
		{name: "pairs", run: d.watchPairs, notReady: d.pairs.notReady},
		{name: "uplink", run: d.watchUplink},
		{name: "local routes", run: d.watchLocalRoutes},
		{name: "host sockets", run: d.watchSockets},
		{name: "DNS64", run: d.dns64.run},
		{name: "metrics", run: d.metrics.run},
		{name: "status page", run: d.web.run},
		{name: "control socket", run: func(ctx context.Context) error { return control.Serve(ctx, listener, server) }},
		{name: "reload", run: d.reloadOnRequest},
		{name: "summary", run: d.summarizeOnRequest},
		{name: "readiness", run: d.announce},
		{name: "workers", run: d.feedWatchdog, notReady: d.stuck},
		{name: "self-test", run: d.selfTest.run, notReady: d.selfTest.notReady},
		{name: "probe", run: d.watchProbes, notReady: d.probes.notReady},
		{name: "restore", run: d.restore, notReady: d.restoring},
	}
}
