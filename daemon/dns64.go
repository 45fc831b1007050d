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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"nat64d/config"
	"nat64d/dns64"
	"nat64d/ops/control"
	"nat64d/pool6"
)

// dns64Service is the DNS64 forwarder. Its goroutines are its own, and what goes wrong here does not stop packets. Its methods may
// be called by any number of goroutines.
type dns64Service struct {
	log       *slog.Logger
	version   control.Version
	f         *dns64.Forwarder // nil: DNS64 is off
	listeners []*listener

	mu    sync.Mutex // held while it is configured
	basis basis
}

// basis is what the forwarder's configuration is made of.
type basis struct {
	conf   *config.Config
	pool4  []netip.Addr   // the addresses of pool4 at present
	routed []netip.Prefix // out of the v6 interface
}

// newDNS64Service opens the forwarder's sockets, if it is on. With an error some could not be opened: run tries that again.
func newDNS64Service(b basis, version control.Version, log *slog.Logger) (*dns64Service, error) {
	n := &dns64Service{log: log, version: version, basis: b}
	if !b.conf.DNS64.Enabled {
		return n, nil
	}
	n.warn(nil)
	n.f = dns64.New(b.config(nil), log)
	var failed error
	for _, a := range b.conf.DNS64.Listen {
		l := &listener{addr: a}
		n.listeners = append(n.listeners, l)
		_, err := l.open(n.f)
		failed = errors.Join(failed, err)
	}
	return n, failed
}

// run answers until ctx is done. Errors are logged and no more: packets flow on.
func (n *dns64Service) run(ctx context.Context) error {
	if n.f == nil {
		return nil
	}
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = n.f.Watch(ctx) }) // it ends with ctx
	for _, l := range n.listeners {
		tasks.Go(func() { n.serve(ctx, l) })
	}
	tasks.Wait()
	return nil
}

// close closes the sockets of a forwarder that has not run.
func (n *dns64Service) close() {
	for _, l := range n.listeners {
		l.fail(net.ErrClosed)
	}
}

// follow has the forwarder work by what holds now.
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
}

// warn logs which routes, beside those of before, have nobody behind them who is answered.
func (n *dns64Service) warn(before []netip.Prefix) {
	c := n.basis.conf
	if len(c.DNS64.Clients) > 0 || len(c.AllowV6) > 0 {
		return
	}
	for _, p := range n.basis.routed {
		if n.basis.leadsAway(p) && !slices.Contains(before, p) {
			n.log.Warn("DNS64 does not answer those behind a route to everybody; dns64.clients or dns64.open says who is to be answered", "route", p)
		}
	}
}

// config returns the forwarder's configuration. Upstreams that stay as they are in old keep their connections.
func (b *basis) config(old *dns64.Config) dns64.Config {
	c := &b.conf.DNS64
	next := dns64.Config{
		Policy: b.policy(), Clients: b.clients(), InFlight: c.MaxInFlight, Bits: b.conf.Sessions.ClientPrefixLen, Rate: c.RatePerSecond, Size: uint16(c.UDPSize),
		Cache: dns64.CacheLimits{
			Size: c.Cache.Size, MinTTL: c.Cache.MinTTL, MaxTTL: c.Cache.MaxTTL, MaxNegativeTTL: c.Cache.MaxNegativeTTL,
			Prefetch: c.Cache.Prefetch, ServeStale: c.Cache.ServeStale,
		},
	}
	var list []dns64.Upstream
	for _, u := range c.Upstreams {
		list = append(list, dns64.Upstream{Transport: dns64.Transport(u.Transport), Addr: u.Addr, Name: u.Name})
	}
	if old != nil && old.Upstreams.Are(list, c.Race) {
		next.Upstreams = old.Upstreams
	} else {
		next.Upstreams = dns64.NewUpstreams(list, c.Race, nil)
	}
	return next
}

// checkZones refuses upstreams behind interfaces that are not there, unless these were asked before. The gateway waits for its
// own interfaces, and so do these.
func checkZones(old, next *config.Config) error {
	for _, u := range next.DNS64.Upstreams {
		zone := u.Addr.Addr().Zone()
		if zone == "" || zone == next.Interfaces.V6.Name || zone == next.Interfaces.V4.Name || !next.DNS64.Enabled ||
			old != nil && slices.Contains(old.DNS64.Upstreams, u) {
			continue
		}
		_, err := net.InterfaceByName(zone)
		if index, numeric := strconv.Atoi(zone); numeric == nil {
			_, err = net.InterfaceByIndex(index)
		}
		if err != nil {
			return fmt.Errorf("dns64.upstreams: %v: there is no interface %q; ip link shows those that there are", u, zone)
		}
	}
	return nil
}

// clients returns who is answered: those that are named, or those that packets are carried for, or those that are there.
func (b *basis) clients() []netip.Prefix {
	switch {
	case len(b.conf.DNS64.Clients) > 0:
		return b.conf.DNS64.Clients
	case len(b.conf.AllowV6) > 0:
		return b.conf.AllowV6
	}
	return slices.DeleteFunc(slices.Clone(b.routed), b.leadsAway)
}

// leadsAway says whether a route is one to everybody by another name than ::/0, such as 2000::/3 or the halves that a VPN
// has: whoever is there is not a client, unless the configuration says that everybody may be.
func (b *basis) leadsAway(p netip.Prefix) bool { return !b.conf.DNS64.Open && config.Everybody(p) }

// policy returns what is made of which names.
func (b *basis) policy() dns64.Policy {
	c := &b.conf.DNS64
	p := dns64.Policy{
		Choice: dns64.Choice(c.PrefixPolicy), Exclude: c.Exclude, Mapped: c.Mapped, TranslateAll: c.TranslateAll, Suffix: c.Suffix,
		ServfailOnError: c.ServfailError, BreakDNSSEC: c.BreakDNSSEC, Validated: c.Validated, RecursiveOnly: c.RecursiveOnly,
	}
	for i, prefix := range b.conf.Pool6 {
		p.Prefixes = append(p.Prefixes, dns64.Prefix{Prefix: prefix, Private: b.private(prefix, b.conf.PrivateV4[i])})
		for _, r := range c.Ranges {
			if r.Prefix == prefix {
				p.Ranges = append(p.Ranges, dns64.Range{V4: r.V4, Prefix: i})
			}
		}
	}
	return p
}

// private says whether non-global IPv4 addresses may stand behind a prefix: no name must have an address to which packets
// are dropped. Without a pool, as beside a gateway elsewhere, it is not known whether it is one within a network of such
// addresses, and RFC 6052 section 3.1 holds.
func (b *basis) private(p pool6.Prefix, choice config.PrivateV4) bool {
	if choice != config.PrivateV4Auto {
		return choice == config.PrivateV4Allow
	}
	if !p.IsWellKnown() {
		return true
	}
	return len(b.pool4) > 0 && !slices.ContainsFunc(b.pool4, func(a netip.Addr) bool { return pool6.Global4(a.As4()) })
}

// basis returns what the forwarder's configuration is to be made of. The caller holds p.admin, unless nothing runs yet.
func (p *Daemon) basis() basis {
	return basis{conf: p.config(), pool4: p.pool.Addresses(), routed: p.routes.Behind6()}
}

// off is the error of what needs a forwarder that is off.
func (n *dns64Service) off() error {
	if n.f != nil {
		return nil
	}
	return &control.Error{Message: "DNS64 is off", Hint: "dns64.enabled: true in the configuration file, and a restart, switch it on"}
}

// DNS64 implements control.Names.
func (n *dns64Service) DNS64() (st control.DNS64Status, err error) {
	if err := n.off(); err != nil {
		return st, err
	}
	c := n.f.Config()
	open, closed := n.listening()
	st = control.DNS64Status{Listen: open, Closed: closed, Clients: c.Clients, Limited: n.f.Limited(), Cached: n.f.Remembered(), Counters: n.Counters()}
	for _, p := range c.Policy.Prefixes {
		st.Prefixes = append(st.Prefixes, p.Prefix.Prefix())
	}
	for _, u := range c.Upstreams.State() {
		since := ""
		if !u.Up {
			since = u.Since.Format(time.RFC3339)
		}
		st.Upstreams = append(st.Upstreams, control.DNS64Upstream{
			Since: since, Upstream: u.String(), Up: u.Up, Error: u.Error, Asked: u.Asked, Failed: u.Failed, Latency: control.Seconds(u.Recent),
		})
	}
	return st, nil
}

// Version implements control.Names.
func (n *dns64Service) Version() control.Version { return n.version }

// Counters implements control.Names. There are none if the forwarder is off.
func (n *dns64Service) Counters() (list []control.Counter) {
	if n.f == nil {
		return nil
	}
	for _, c := range n.f.Stats.All() {
		list = append(list, control.Counter{Name: c.Name, Labels: c.Labels, Value: c.Value, Help: c.Help, Kind: "dns64"})
	}
	for _, u := range n.f.Config().Upstreams.State() {
		list = append(list, upstreamCounters(u)...)
	}
	return list
}

// upstreamCounters returns what is counted about an upstream. How long answers take is a histogram as Prometheus has them.
func upstreamCounters(u dns64.UpstreamState) (list []control.Counter) {
	add := func(name string, value uint64, help string, labels ...string) {
		of := map[string]string{"upstream": u.String()}
		for i := 0; i < len(labels); i += 2 {
			of[labels[i]] = labels[i+1]
		}
		list = append(list, control.Counter{Name: name, Labels: of, Value: value, Help: help, Kind: "dns64"})
	}
	add("dns64_upstream_queries", u.Asked, "questions to an upstream")
	add("dns64_upstream_failures", u.Failed, "questions that an upstream did not answer")
	var all uint64
	for _, l := range u.Latency {
		le := "+Inf"
		if l.Within > 0 {
			le = strconv.FormatInt(l.Within.Microseconds(), 10)
		}
		add("dns64_upstream_microseconds_bucket", l.Count, "answers of an upstream that took no longer than so many microseconds", "le", le)
		all = l.Count
	}
	add("dns64_upstream_microseconds_sum", uint64(u.Elapsed.Microseconds()), "how long an upstream took for all its answers together")
	add("dns64_upstream_microseconds_count", all, "answers of an upstream")
	return list
}

// DNS64Cache implements control.Names.
func (n *dns64Service) DNS64Cache() (list []control.DNS64Cached, err error) {
	if err := n.off(); err != nil {
		return nil, err
	}
	for _, c := range n.f.Cached() {
		kind := "upstream"
		if c.Made {
			kind = "answer"
		}
		list = append(list, control.DNS64Cached{
			Name: c.Name, Type: c.Type, Result: c.Result, Kind: kind, TTL: control.Seconds(c.TTL), Hits: c.Hits, Records: c.Records,
		})
	}
	return list, nil
}

// FlushDNS64 implements control.Names.
func (n *dns64Service) FlushDNS64() (control.DNS64Flushed, error) {
	if err := n.off(); err != nil {
		return control.DNS64Flushed{}, err
	}
	return control.DNS64Flushed{Forgotten: n.f.Flush()}, nil
}

// QueryDNS64 implements control.Names.
func (n *dns64Service) QueryDNS64(ctx context.Context, q control.DNS64Query) (a control.DNS64Answer, err error) {
	if err := n.off(); err != nil {
		return a, err
	}
	kind := uint16(dns.TypeAAAA)
	if q.Type != "" {
		if kind, err = recordType(q.Type); err != nil {
			return a, err
		}
	}
	if _, ok := dns.IsDomainName(q.Name); !ok || q.Name == "" {
		return a, &control.Error{Message: fmt.Sprintf("%q is not a name", q.Name), Hint: "use one such as www.example.net"}
	}
	if !q.Client.IsValid() {
		q.Client = netip.IPv6Unspecified()
	}
	began := time.Now()
	m, attempts, err := n.f.Query(ctx, q.Client, q.Name, kind)
	if err != nil {
		return a, err
	}
	a = control.DNS64Answer{Result: dns.RcodeToString[m.Rcode], Answer: []string{}, Elapsed: control.Seconds(time.Since(began))}
	for _, u := range attempts {
		a.Upstreams = append(a.Upstreams, control.DNS64Attempt{
			Upstream: u.Upstream, Name: u.Name, Type: u.Type, Outcome: u.Outcome, Failed: u.Failed, Elapsed: control.Seconds(u.Took),
		})
	}
	for _, rr := range m.Answer {
		a.Answer = append(a.Answer, rr.String())
	}
	for _, rr := range m.Ns {
		a.Authority = append(a.Authority, rr.String())
	}
	return a, nil
}

// recordType reads the name of a type, or its number as RFC 3597 section 5 writes it.
func recordType(text string) (uint16, error) {
	kind, known := dns.StringToType[text]
	if number, is := strings.CutPrefix(text, "TYPE"); is && !known {
		n, err := strconv.ParseUint(number, 10, 16)
		kind, known = uint16(n), err == nil
	}
	switch {
	case !known:
		return 0, &control.Error{Message: fmt.Sprintf("there is no type %q of records", text), Hint: "use one such as AAAA, A, PTR, TXT or TYPE65"}
	case dns64.Transfer(kind):
		return 0, &control.Error{Message: text + " asks for a whole zone, which clients are refused: none is here", Hint: "ask the name server of the zone"}
	}
	return kind, nil
}

// Snippet implements control.Names.
func (n *dns64Service) Snippet(server string) (control.DNS64Snippet, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.basis.policy()
	s := dns64.Surroundings{Clients: n.basis.clients(), Interface: n.basis.conf.Interfaces.V6.Name}
	for _, a := range n.basis.conf.DNS64.Listen {
		if ip := a.Addr(); n.f != nil && ip.Is6() && !ip.IsUnspecified() && !ip.IsLoopback() && a.Port() == 53 {
			s.Resolver = ip
		}
	}
	text, err := p.Snippet(server, s)
	return control.DNS64Snippet{Server: server, Text: text}, err
}

var _ control.Names = (*dns64Service)(nil)
