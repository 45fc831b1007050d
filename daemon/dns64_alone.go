//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"nat64d/config"
	"nat64d/linux/nexthop"
	"nat64d/ops/control"
)

// DNS64 is the DNS64 forwarder of a configuration without the gateway. Reload may be called by any goroutine, Run once.
type DNS64 struct {
	options Options
	conf    *config.Config
	log     *logs
	routes  *nexthop.Table // nil: they do not matter
	names   *dns64Service
	reloads chan struct{} // the configuration is to be read again
}

// aloneNames adds what the process counts beside the forwarder, for which a gateway has statistics of its own.
type aloneNames struct {
	*dns64Service
	log *logs
}

// Counters implements control.Names.
func (n aloneNames) Counters() []control.Counter {
	return append(n.dns64Service.Counters(), n.log.counter())
}

// NewDNS64 reads the configuration.
func NewDNS64(o Options) (*DNS64, error) {
	o.Overrides.DNS64 = true
	a := &DNS64{options: o, reloads: make(chan struct{}, 1)}
	var err error
	if a.conf, err = o.load(); err != nil {
		return nil, err
	}
	a.log = newLogs(a.conf.Log, o.Log)
	return a, nil
}

// Reload has the forwarder read its configuration again; the log says what came of it.
func (a *DNS64) Reload() { notify(a.reloads)() }

// Run runs the forwarder until ctx ends. Its error says what would help.
func (a *DNS64) Run(ctx context.Context) error {
	err := a.serve(ctx)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w. DNS64 alone takes CAP_NET_BIND_SERVICE for ports below 1024, and a folder that this user may write to "+
			"for its control socket (--socket)", err)
	}
	return err
}

func (a *DNS64) serve(ctx context.Context) error {
	l, err := control.Listen(a.conf.Socket, a.conf.Group)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := checkZones(nil, a.conf); err != nil {
		return err
	}
	if a.routes, err = a.routesFor(a.conf); err != nil {
		return err
	}
	if a.names, err = newDNS64Service(a.basis(), a.options.Version, a.log.Logger); err != nil {
		return err
	}
	defer a.names.close()
	return a.run(ctx, l)
}

// run starts what lives as long as the process.
func (a *DNS64) run(ctx context.Context, l net.Listener) error {
	moved := make(chan struct{}, 1)
	group, ctx := errgroup.WithContext(ctx)
	watch := func(t *nexthop.Table) {
		t.OnSurroundings(notify(moved))
		group.Go(func() error { return t.Run(ctx) })
	}
	if a.routes != nil {
		watch(a.routes)
	}
	group.Go(func() error {
		return control.Serve(ctx, l, control.NewServer(nil, aloneNames{a.names, a.log}, a.log.Logger))
	})
	group.Go(func() error { return a.names.run(ctx) })
	group.Go(func() error { return a.follow(ctx, moved, watch) })
	_, _ = systemd.SdNotify(false, systemd.SdNotifyReady) // without systemd there is nobody to tell
	return group.Wait()
}

// follow has the forwarder follow the routes and, after Reload, the configuration, until ctx is done. watch follows routes that
// begin to matter.
func (a *DNS64) follow(ctx context.Context, moved <-chan struct{}, watch func(*nexthop.Table)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		case <-a.reloads:
			if err := a.reload(watch); err != nil {
				a.log.Error("the configuration stays as it is", "error", err)
				continue
			}
		}
		a.names.follow(a.basis())
	}
}

// reload reads the configuration again.
func (a *DNS64) reload(watch func(*nexthop.Table)) error {
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
	if a.routes == nil {
		if a.routes, err = a.routesFor(next); err != nil {
			return err
		}
		if a.routes != nil {
			watch(a.routes)
		}
	}
	a.conf = next
	a.log.level.Set(levelOf(next.Log))
	logChanges(a.log.Logger, changes)
	return nil
}

// basis returns what the forwarder's configuration is to be made of. The pool is the one of the file: what was added to a
// running gateway is not known here.
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

// routesFor returns the kernel's routes, if it takes them to know who the clients of a configuration are.
func (a *DNS64) routesFor(c *config.Config) (*nexthop.Table, error) {
	if len(c.DNS64.Clients) > 0 || len(c.AllowV6) > 0 {
		return nil, nil
	}
	nic := c.Interfaces.V6.Name
	if nic == "" {
		return nil, errors.New("who is to be answered? dns64.clients, allow_v6 or the name of the v6 interface must say so")
	}
	return nexthop.New(nexthop.Interfaces{V6: nic, V4: nic}, nexthop.ARPOff, a.log.Logger)
}
