//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/ops/doctor"
)

// Our own choices: the interval of the pings of health.probe, how long each may take, the time without an answer after which
// a host counts as unreachable, and the length of the packets.
const (
	probeEvery  = time.Second
	probeWithin = time.Second
	probeLost   = 3 * time.Second
	probeSize   = 84 // as ping(8) sends them
)

// probes are the hosts of health.probe. They are safe for concurrent use.
type probes struct {
	mu    sync.Mutex
	hosts map[netip.Addr]*probed
}

// probed is a host that is pinged.
type probed struct {
	since  time.Time // of the last answer, or of the first ping
	why    string    // the last ping was not answered
	inWait bool      // a ping is under way
}

// watchProbes pings the hosts of health.probe until ctx is done.
func (d *Daemon) watchProbes(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.probe:
		case <-timer.C:
		}
		hosts := d.config().Probe
		for _, a := range d.probes.due(hosts, time.Now()) {
			group.Go(func() { d.probe(ctx, a) })
		}
		if len(hosts) > 0 {
			timer.Reset(untilNext(probeEvery))
		}
	}
}

// probe pings a host.
func (d *Daemon) probe(ctx context.Context, a netip.Addr) {
	within, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	p, err := d.gateway.Ping(within, a, probeSize)
	why := ""
	switch {
	case err != nil:
		why = err.Error()
	default:
		why = failure(&p)
	}
	d.probes.done(a, why, time.Now())
}

// failure returns why a ping was not answered, or "".
func failure(p *gateway.Pong) string {
	switch {
	case p.Dropped != drop.None:
		return fmt.Sprintf("nat64d drops the packet (%v): %s", p.Dropped, p.Dropped.Help())
	case p.Refused:
		return fmt.Sprintf("%v answers with ICMP type %d code %d", p.From, p.Type, p.Code)
	}
	return ""
}

// due returns the hosts to ping, and forgets those that are not among them.
func (p *probes) due(hosts []netip.Addr, now time.Time) (list []netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.hosts {
		if !slices.Contains(hosts, a) {
			delete(p.hosts, a)
		}
	}
	for _, a := range hosts {
		h := p.hosts[a]
		if h == nil {
			if p.hosts == nil {
				p.hosts = map[netip.Addr]*probed{}
			}
			h = &probed{since: now}
			p.hosts[a] = h
		}
		if !h.inWait {
			h.inWait = true
			list = append(list, a)
		}
	}
	return list
}

// done takes the result of a ping.
func (p *probes) done(a netip.Addr, why string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[a]
	if h == nil {
		return // no longer configured
	}
	h.inWait, h.why = false, why
	if why == "" {
		h.since = now
	}
}

// notReady returns a reason if none of the hosts has answered for a time.
func (p *probes) notReady() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var texts []string
	for a, h := range p.hosts {
		if h.why == "" || time.Since(h.since) < probeLost {
			return nil
		}
		texts = append(texts, fmt.Sprintf("%v (%s)", a, h.why))
	}
	if len(texts) == 0 {
		return nil
	}
	slices.Sort(texts)
	return []string{"no host of health.probe answers pings through the translator: " + strings.Join(texts, ", ")}
}

// remedies are the commands that mend the reasons for which pings are dropped.
var remedies = map[drop.Reason]string{
	drop.Paused: "nat64ctl resume", drop.Denied4: "nat64ctl config get deny_v4; nat64ctl config set deny_v4 PREFIXES",
	drop.PoolEmpty: "nat64ctl pool4 add ADDRESS PORTS --icmp", drop.PoolExhausted: "nat64ctl pool4 add ADDRESS PORTS --icmp",
	drop.NoRoute: "ip -4 route add default via ROUTER", drop.OtherInterface: "ip -4 route replace default via ROUTER",
	drop.WellKnown: "nat64ctl pool6 add PREFIX", drop.IPsec: "ip xfrm policy",
}

// pingWithin is how long a host may take to answer a ping of doctor: our own choice.
const pingWithin = time.Second

// commonSizes are lengths of packets that links along a path often limit them to.
var commonSizes = []int{9000, 1500, 1492, 1480, 1472, 1460, 1440, 1420, 1400, 1380, 1360, 1300, 1280}

// echo pings a host for doctor, first with a small packet, then with larger ones, of which the largest is mtu bytes long.
func (d *Daemon) echo(ctx context.Context, to netip.Addr, mtu int) *doctor.Echo {
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	e := &doctor.Echo{To: to}
	p, err := d.gateway.Ping(ctx, to, probeSize)
	if err != nil {
		e.Trouble = fmt.Sprintf("%v within %v", err, pingWithin)
		return e
	}
	if e.Trouble = failure(&p); e.Trouble != "" {
		e.Command = remedies[p.Dropped]
		return e
	}
	e.Took = p.Took
	d.echoLarge(ctx, e, min(mtu, gateway.MaxPing))
	return e
}

// echoLarge finds the largest packet that is answered. It sends all sizes at once, and waits as long as most answers can take.
func (d *Daemon) echoLarge(ctx context.Context, e *doctor.Echo, mtu int) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond+10*e.Took)
	defer cancel()
	var group sync.WaitGroup
	var mu sync.Mutex
	e.Passed, e.Sent = probeSize, mtu
	for _, size := range slices.Insert(slices.Clone(commonSizes), 0, mtu) {
		if size > mtu {
			continue
		}
		group.Go(func() {
			p, err := d.gateway.Ping(ctx, e.To, size)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
			case p.Refused || p.Dropped == drop.TooBig:
				e.Learned = true
			case p.Dropped == drop.None:
				e.Passed = max(e.Passed, size)
			}
		})
	}
	group.Wait()
}
