package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"nat64d/config"
	"nat64d/linux/nexthop"
	"nat64d/ops/control"
)

// dns64Command runs the forwarder without the gateway.
func dns64Command(file *string, o *config.Overrides, stderr *logQueue) *cobra.Command {
	return &cobra.Command{
		Use:   "dns64",
		Short: "Run DNS64 alone, without the privileges for packets",
		Long: `Run the DNS64 forwarder of the configuration, and nothing else of it: no packet is translated here, and the process has
not the privileges that this would take. Beside a gateway with dns64.enabled: false it keeps names and packets apart; it needs a
control socket of its own then, which nat64ctl --socket names.`,
		Example: "  nat64d dns64 -c /etc/nat64d/nat64d.yaml --socket /run/nat64d/dns64.sock",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			o.DNS64 = true
			err := serveNames(c.Context(), *file, *o, stderr)
			if errors.Is(err, fs.ErrPermission) {
				err = fmt.Errorf("%w. DNS64 alone takes CAP_NET_BIND_SERVICE for ports below 1024, and a folder that this user may write to "+
					"for its control socket (--socket)", err)
			}
			return asUsage(err)
		},
	}
}

// alone is a forwarder without a gateway.
type alone struct {
	load   func() (*config.Config, error)
	conf   *config.Config
	log    *logs
	routes *nexthop.Table // nil: they do not matter
	names  *names
}

// aloneNames adds what the process counts beside the forwarder, for which a gateway has statistics of its own.
type aloneNames struct {
	*names
	log *logs
}

// Counters implements control.Names.
func (n aloneNames) Counters() []control.Counter {
	return append(n.names.Counters(), n.log.counter())
}

// serveNames runs the forwarder until ctx ends.
func serveNames(ctx context.Context, file string, o config.Overrides, stderr *logQueue) (err error) {
	if err := shedPrivileges(); err != nil {
		return err
	}
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	a := &alone{load: func() (*config.Config, error) { return config.Load(file, o) }}
	if a.conf, err = a.load(); err != nil {
		return err
	}
	a.log = newLogs(a.conf.Log, stderr)
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
	if a.names, err = newNames(a.basis(), a.log.Logger); err != nil {
		return err
	}
	defer a.names.close()
	return a.run(ctx, l, hangup)
}

// run starts what lives as long as the process.
func (a *alone) run(ctx context.Context, l net.Listener, hangup <-chan os.Signal) error {
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
	group.Go(func() error { return a.follow(ctx, moved, hangup, watch) })
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd there is nobody to tell
	return group.Wait()
}

// follow has the forwarder follow the routes and, on SIGHUP, the configuration, until ctx is done. watch follows routes that
// begin to matter.
func (a *alone) follow(ctx context.Context, moved <-chan struct{}, hangup <-chan os.Signal, watch func(*nexthop.Table)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-moved:
		case <-hangup:
			if err := a.reload(watch); err != nil {
				a.log.Error("the configuration stays as it is", "error", err)
				continue
			}
		}
		a.names.follow(a.basis())
	}
}

// reload reads the configuration again.
func (a *alone) reload(watch func(*nexthop.Table)) error {
	next, err := a.load()
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
func (a *alone) basis() basis {
	b := basis{conf: a.conf, pool: a.conf.Pool4}
	if a.routes != nil {
		b.routed = a.routes.Behind6()
	}
	return b
}

// routesFor returns the kernel's routes, if it takes them to know who the clients of a configuration are.
func (a *alone) routesFor(c *config.Config) (*nexthop.Table, error) {
	if len(c.DNS64.Clients) > 0 || len(c.AllowV6) > 0 {
		return nil, nil
	}
	nic := c.Interfaces.V6.Name
	if nic == "" {
		return nil, errors.New("who is to be answered? dns64.clients, allow_v6 or the name of the v6 interface must say so")
	}
	return nexthop.New(nexthop.Interfaces{V6: nic, V4: nic}, nexthop.ARPOff, a.log.Logger)
}
