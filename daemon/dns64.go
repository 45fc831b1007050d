//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"nat64d/dns64"
	"nat64d/gateway"
	"nat64d/ops/control"
)

// dns64Service is the DNS64 forwarder. It has its own goroutines, and its failures do not affect packets. It is safe
// for concurrent use.
type dns64Service struct {
	log       *slog.Logger
	version   control.Version
	f         *dns64.Forwarder // nil: DNS64 is off
	listeners []*listener
	tls       *certificate // nil: DNS over TLS is off
	panics    *gateway.Panics

	mu    sync.Mutex // held during configuration
	basis basis
}

// newDNS64Service opens the forwarder's sockets if DNS64 is enabled. If it returns an error, some could not be
// opened, and run retries.
func newDNS64Service(b basis, version control.Version, log *slog.Logger, panics *gateway.Panics) (*dns64Service, error) {
	n := &dns64Service{log: log, version: version, basis: b, panics: panics}
	if !b.conf.DNS64.Enabled {
		return n, nil
	}
	n.warn(nil)
	n.f = dns64.New(b.config(nil), log)
	var failed error
	for _, a := range b.conf.DNS64.Listen {
		n.listeners = append(n.listeners, &listener{addr: a})
	}
	if o := b.conf.DNS64.TLS; len(o.Listen) > 0 {
		n.tls = &certificate{chain: o.Certificate, key: o.Key, log: log}
		for _, a := range o.Listen {
			n.listeners = append(n.listeners, &listener{addr: a, tls: n.tls})
		}
	}
	for _, l := range n.listeners {
		_, err := l.open(n.f)
		failed = errors.Join(failed, err)
	}
	return n, failed
}

// run answers queries until ctx is done. It only logs errors, because packets must be translated anyway.
func (n *dns64Service) run(ctx context.Context) error {
	if n.f == nil {
		return nil
	}
	tasks := []task{{name: "upstreams of DNS64", run: n.f.Watch}}
	if n.tls != nil {
		tasks = append(tasks, task{name: "certificate of DNS64", run: n.tls.watch})
	}
	for _, l := range n.listeners {
		tasks = append(tasks, task{name: "DNS64 on " + l.addr.String(), run: func(ctx context.Context) error { n.serve(ctx, l); return nil }})
	}
	return runTasks(ctx, tasks, n.panics)
}

// close closes the sockets of a forwarder that was not run.
func (n *dns64Service) close() {
	for _, l := range n.listeners {
		l.fail(net.ErrClosed)
	}
}

// follow applies a new basis to the forwarder.
func (n *dns64Service) follow(b basis) {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := n.basis.routed
	n.basis = b
	if n.f == nil {
		return
	}
	n.warn(before)
	old := n.f.Config()
	n.f.Configure(b.config(&old))
	if n.tls != nil {
		_ = n.tls.load() // it logs a failure, and the status shows it
	}
}

// warn logs new routes whose hosts are not answered.
func (n *dns64Service) warn(before []netip.Prefix) {
	c := n.basis.conf
	if len(c.DNS64.Clients) > 0 || len(c.AllowV6) > 0 {
		return
	}
	for _, p := range n.basis.routed {
		if n.basis.leadsAway(p) && !slices.Contains(before, p) {
			n.log.Warn("DNS64 does not answer the hosts of a default route: set dns64.clients or dns64.open to answer them", "route", p)
		}
	}
}

// warnings returns the failures of DNS64, one sentence each.
func (n *dns64Service) warnings() (ws []string) {
	if n.f == nil {
		return nil
	}
	_, _, closed := n.listening()
	for _, c := range closed {
		ws = append(ws, fmt.Sprintf("DNS64 does not answer on %v, and tries again every %v: %s", c.Address, listenAgain, c.Error))
	}
	if n.tls != nil {
		ws = append(ws, n.tls.warnings()...)
	}
	us := n.f.Config().Upstreams
	for _, u := range us.State() {
		if u.Up {
			continue
		}
		ws = append(ws, fmt.Sprintf("DNS64 upstream %v does not answer since %s: %s", u.Upstream, u.Since.Format(time.RFC3339), u.Error))
	}
	for _, domain := range us.Down() {
		if domain == "." {
			ws = append(ws, "no upstream of DNS64 answers: names that are not remembered fail")
			continue
		}
		ws = append(ws, fmt.Sprintf("no upstream of DNS64 for %s answers: its names that are not remembered fail", strings.TrimSuffix(domain, ".")))
	}
	return ws
}
