//go:build linux

package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"nat64d/bib"
	"nat64d/gateway"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Our own choices. A survey of a million bindings takes 0.2 s, so it is used again for some time.
const (
	lookFor       = 10 * time.Second // how long traffic is counted after a request for it
	surveyFor     = time.Second      // how long a survey is used, at least
	surveyCost    = 20               // how many times as long as it took
	maxSurveyed   = 1 << 16          // clients in a survey
	clientsAtOnce = 20               // without a limit in a request
)

// clientUse is what a client has in the tables.
type clientUse struct {
	mapped          packet.Addr4
	ports, sessions int
}

// clientTraffic is what a client has sent and received, in the order of metrics.Direction.
type clientTraffic struct{ packets, bytes [2]uint64 }

func (t *clientTraffic) total() (packets, bytes uint64) {
	return t.packets[0] + t.packets[1], t.bytes[0] + t.bytes[1]
}

// survey is what all clients have at a time.
type survey struct {
	at          time.Time
	uses        map[packet.Addr6]clientUse
	approximate bool // clients with few ports are missing
	traffic     map[packet.Addr6]clientTraffic
}

// clientsInUse takes surveys for requests about clients, and has traffic counted while requests for it come or the configuration
// asks for it.
type clientsInUse struct {
	mu     sync.Mutex
	always bool        // sessions.accounting
	looked time.Time   // time of the last request for traffic
	since  time.Time   // when counting began; zero: it is off
	end    *time.Timer // lookFor after the last request; nil before the first one
	last   survey
	before survey    // the one before, for rates
	until  time.Time // until when last is used
}

// setAccounting applies sessions.accounting.
func (d *Daemon) setAccounting(always bool) {
	c := &d.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	c.always = always
	d.countLocked()
}

// countLocked begins or ends counting, if need be. The caller holds clients.mu.
func (d *Daemon) countLocked() {
	c := &d.clients
	on := c.always || time.Since(c.looked) < lookFor
	d.gateway.SetAccounting(on)
	switch {
	case !on:
		c.since, c.last, c.before = time.Time{}, survey{}, survey{}
	case c.since.IsZero():
		c.since, c.until = time.Now(), time.Time{}
	}
}

// lookLocked has traffic counted for some time. The caller holds clients.mu.
func (d *Daemon) lookLocked() {
	c := &d.clients
	c.looked = time.Now()
	d.countLocked()
	if c.end != nil {
		c.end.Reset(lookFor)
		return
	}
	c.end = time.AfterFunc(lookFor, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		d.countLocked()
	})
}

// Clients implements control.Backend.
func (b *backend) Clients(q control.ClientQuery) control.ClientList {
	c := &b.Daemon.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	b.lookLocked()
	b.surveyLocked()
	l := control.ClientList{
		Clients: c.topLocked(cmp.Or(q.By, "ports"), cmp.Or(q.Limit, clientsAtOnce)), Total: b.gateway.Bindings.Clients(),
		Approximate: c.last.approximate, Accounted: control.Seconds(time.Since(c.since)),
	}
	return l
}

// Pool4Usage implements control.Backend.
func (b *backend) Pool4Usage(clients int) (u control.Pool4Usage) {
	for _, r := range b.pool.RowUsage() {
		u.Pool4 = append(u.Pool4, control.Pool4Row{
			Address: r.Addr, Protocol: r.Proto.String(), Size: r.Size, Used: r.Used, Held: r.Held, Free: r.Size - r.Used - r.Held, Peak: r.Peak,
			Pool4Rule: b.ruleOf(r.Proto, r.Addr),
		})
	}
	if clients == 0 {
		return u
	}
	c := &b.Daemon.clients
	c.mu.Lock()
	defer c.mu.Unlock()
	b.surveyLocked()
	u.Clients = c.topLocked("ports", clients)
	return u
}

// surveyLocked takes a survey, unless the last one is still good. The caller holds clients.mu.
func (d *Daemon) surveyLocked() {
	c := &d.clients
	now := time.Now()
	if now.Before(c.until) {
		return
	}
	s := survey{at: now, traffic: map[packet.Addr6]clientTraffic{}}
	s.uses, s.approximate = surveyBindings(d.gateway.Bindings.List)
	d.gateway.Accounts(func(a gateway.Account) {
		t := s.traffic[a.Client]
		for i := range t.packets {
			t.packets[i] += a.Packets[i]
			t.bytes[i] += a.Bytes[i]
		}
		s.traffic[a.Client] = t
	})
	c.before, c.last = c.last, s
	c.until = now.Add(max(surveyFor, surveyCost*time.Since(now)))
}

// surveyBindings adds up the bindings of each client. With too many clients, it leaves out those with fewest ports among the ones
// that it has seen, and counts the others in a second pass.
func surveyBindings(list func(uint32, []bib.Binding) (int, uint32)) (uses map[packet.Addr6]clientUse, approximate bool) {
	uses = make(map[packet.Addr6]clientUse)
	visit := func(missing bool) {
		_ = pages(context.Background(), noPause, list, func(row *bib.Binding) error { // each returns no error
			u, ok := uses[row.Client.Addr]
			if !ok && !missing {
				return nil
			}
			u.mapped = row.Mapped.Addr
			u.ports++
			u.sessions += row.Sessions
			if uses[row.Client.Addr] = u; len(uses) > maxSurveyed {
				approximate = true
				leaveOut(uses)
			}
			return nil
		})
	}
	if visit(true); approximate {
		for client := range uses {
			uses[client] = clientUse{}
		}
		visit(false)
	}
	return uses, approximate
}

// leaveOut removes the clients with fewest ports, half of all or more.
func leaveOut(uses map[packet.Addr6]clientUse) {
	for least := 1; len(uses) > maxSurveyed/2; least *= 2 {
		for client, u := range uses {
			if u.ports <= least {
				delete(uses, client)
			}
		}
	}
}

// topLocked returns the first clients of an order. The caller holds clients.mu.
func (c *clientsInUse) topLocked(by string, limit int) []control.ClientUse {
	all := make([]control.ClientUse, 0, len(c.last.uses))
	for client, u := range c.last.uses {
		all = append(all, c.useLocked(client, u))
	}
	for client := range c.last.traffic {
		if _, ok := c.last.uses[client]; !ok {
			all = append(all, c.useLocked(client, clientUse{}))
		}
	}
	key := map[string]func(*control.ClientUse) float64{
		"ports":    func(u *control.ClientUse) float64 { return float64(u.Ports) },
		"sessions": func(u *control.ClientUse) float64 { return float64(u.Sessions) },
		"packets":  func(u *control.ClientUse) float64 { return float64(u.Packets6To4 + u.Packets4To6) },
		"bytes":    func(u *control.ClientUse) float64 { return float64(u.Bytes6To4 + u.Bytes4To6) },
		"rate":     func(u *control.ClientUse) float64 { return u.BytesPerSecond },
	}[by]
	slices.SortFunc(all, func(x, y control.ClientUse) int {
		return cmp.Or(cmp.Compare(key(&y), key(&x)), x.Client.Compare(y.Client))
	})
	return slices.Clone(all[:min(limit, len(all))])
}

// useLocked returns what a client uses. The caller holds clients.mu.
func (c *clientsInUse) useLocked(client packet.Addr6, u clientUse) control.ClientUse {
	x := control.ClientUse{Client: netip.AddrFrom16(client), Ports: u.ports, Sessions: u.sessions}
	if u.ports > 0 {
		x.Mapped = netip.AddrFrom4(u.mapped)
	}
	t := c.last.traffic[client]
	x.Packets6To4, x.Bytes6To4 = t.packets[metrics.From6To4], t.bytes[metrics.From6To4]
	x.Packets4To6, x.Bytes4To6 = t.packets[metrics.From4To6], t.bytes[metrics.From4To6]
	if elapsed := c.last.at.Sub(c.before.at).Seconds(); !c.before.at.IsZero() && elapsed > 0 {
		old := c.before.traffic[client]
		packets, bytes := t.total()
		oldPackets, oldBytes := old.total()
		if packets >= oldPackets && bytes >= oldBytes { // otherwise it has been forgotten meanwhile
			x.PacketsPerSecond, x.BytesPerSecond = float64(packets-oldPackets)/elapsed, float64(bytes-oldBytes)/elapsed
		}
	}
	return x
}
