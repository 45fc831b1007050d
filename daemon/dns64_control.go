//go:build linux

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nat64d/dns64"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
)

// off returns the error of methods that need a forwarder.
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
	open, overTLS, closed := n.listening()
	st = control.DNS64Status{Listen: open, ListenTLS: overTLS, Closed: closed, Clients: c.Clients, Limited: n.f.Limited(), Cached: n.f.Remembered(), Counters: n.Counters()}
	for _, p := range c.Policy.Prefixes {
		st.Prefixes = append(st.Prefixes, p.Prefix.Prefix())
	}
	for _, u := range c.Upstreams.State() {
		since := ""
		if !u.Up {
			since = u.Since.Format(time.RFC3339)
		}
		st.Upstreams = append(st.Upstreams, control.DNS64Upstream{
			Since: since, Upstream: u.String(), Zones: zoneNames(u.Zones), Up: u.Up, Error: u.Error, Asked: u.Asked, Failed: u.Failed, Latency: control.Seconds(u.Recent),
		})
	}
	return st, nil
}

// zoneNames returns the zones of an upstream as in the configuration; none if it serves only the names outside of zones.
func zoneNames(domains []string) (names []string) {
	if len(domains) == 1 && domains[0] == "." {
		return nil
	}
	for _, d := range domains {
		names = append(names, cmp.Or(strings.TrimSuffix(d, "."), d))
	}
	return names
}

// Version implements control.Names.
func (n *dns64Service) Version() control.Version { return n.version }

// Counters implements control.Names. It returns none if the forwarder is off.
func (n *dns64Service) Counters() []control.Counter { return countersOf(n.samples()) }

// samples returns the metrics of the forwarder; none if it is off.
func (n *dns64Service) samples() (list []metrics.Sample) {
	if n.f == nil {
		return nil
	}
	list = forwarderSamples(n.f.Stats.Totals())
	for _, u := range n.f.Config().Upstreams.State() {
		list = append(list, upstreamSamples(u)...)
	}
	return list
}

// forwarderSamples returns what the forwarder counts about queries.
func forwarderSamples(t dns64.Totals) (list []metrics.Sample) {
	for _, a := range t.Answers {
		list = append(list, metrics.DNS64Queries.With(a.Count, a.Type, a.Result))
	}
	return append(list,
		metrics.DNS64CacheHits.With(t.CacheHits), metrics.DNS64CacheMisses.With(t.CacheMisses), metrics.DNS64Synthesized.With(t.Synthesized),
		metrics.DNS64Prefetches.With(t.Prefetches), metrics.DNS64Stale.With(t.Stale), metrics.DNS64Truncated.With(t.Truncated),
		metrics.DNS64Denied.With(t.Denied), metrics.DNS64RateLimited.With(t.RateLimited), metrics.DNS64Busy.With(t.Busy),
		metrics.DNS64Panics.With(t.Panics))
}

// upstreamSamples returns what is counted about an upstream.
func upstreamSamples(u dns64.UpstreamState) []metrics.Sample {
	name, d := u.String(), metrics.Distribution{Sum: u.Elapsed.Seconds()}
	for _, l := range u.Latency {
		if d.Count = l.Count; l.Within > 0 {
			d.Bounds, d.Within = append(d.Bounds, l.Within.Seconds()), append(d.Within, l.Count)
		}
	}
	return []metrics.Sample{
		metrics.DNS64UpstreamQueries.With(u.Asked, name), metrics.DNS64UpstreamFailures.With(u.Failed, name), metrics.DNS64UpstreamUp.Is(u.Up, name),
		metrics.DNS64UpstreamDuration.Over(d, name),
	}
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

// recordType parses the name of a record type, or its number in the notation of RFC 3597 section 5.
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
	text, err := p.Snippet(server, n.surroundingsLocked())
	return control.DNS64Snippet{Server: server, Text: text}, err
}

// surroundingsLocked returns the data of snippets about this host. The caller holds n.mu.
func (n *dns64Service) surroundingsLocked() dns64.Surroundings {
	s := dns64.Surroundings{Clients: n.basis.clients(), Interface: n.basis.conf.Interfaces.V6.Name}
	if n.f == nil {
		return s
	}
	for _, a := range n.basis.conf.DNS64.Listen {
		ip := a.Addr()
		if ip.Is6() && !ip.IsUnspecified() && !ip.IsLoopback() && a.Port() == 53 {
			s.Resolver = ip
		}
		local := a
		switch {
		case ip.IsUnspecified():
			loopback := netip.IPv6Loopback()
			if ip.Is4() {
				loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			local = netip.AddrPortFrom(loopback, a.Port())
			s.Wildcard = s.Wildcard || a.Port() == 53
		case !ip.IsLoopback() && !s.Reach.IsValid():
			s.Reach = a
		}
		if !s.Local.IsValid() || local.Addr().IsLoopback() && (!s.Local.Addr().IsLoopback() || local.Port() == 53 && s.Local.Port() != 53) {
			s.Local = local
		}
	}
	return s
}

var _ control.Names = (*dns64Service)(nil)
