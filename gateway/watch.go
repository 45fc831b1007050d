package gateway

import (
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Our own choices: how often the limits are looked at, and how often each is logged at most. Looking takes the lock of
// each address of pool4 for a moment.
const (
	watchEvery = time.Second
	logEvery   = time.Minute
)

// limit is something that can be full, which an operator wants to know before it is.
type limit struct {
	name    string                       // for the log
	use     func(*Gateway) (n, most int) // how much is in use, of how much; 0: no limit. nil: refusals say it all
	refused func(*Gateway) uint64        // counts what was refused for it; nil: another row has that
	full    string                       // what to log of refusals
}

// limits are those of the gateway as a whole. That clients reach theirs is nothing that an operator must act on.
var limits = [...]limit{
	{"sessions", (*Gateway).useOfSessions, drops(drop.SessionLimit), "the table of sessions is full: new ones are refused; raise sessions.max"},
	{"sessions begun from IPv4", (*Gateway).useOfInbound, drops(drop.InboundLimit),
		"IPv4 hosts have begun as many sessions as they may: new ones from IPv4 are refused; see sessions.max_inbound"},
	{"unanswered sessions", nil, func(g *Gateway) uint64 { return g.Sessions.Evicted() },
		"IPv4 hosts begin more sessions than they may: the oldest that no client has answered are evicted; a host floods or scans bound ports"},
	{"bindings", (*Gateway).useOfBindings, drops(drop.BindingLimit), "the table of bindings is full: new ones are refused; raise sessions.max"},
	{"tcp ports of pool4", useOfPool4(packet.TCP), nil, ""},
	{"udp ports of pool4", useOfPool4(packet.UDP), nil, ""},
	{"icmp identifiers of pool4", useOfPool4(packet.ICMP), nil, ""},
	{"ports of pool4", nil, drops(drop.PoolExhausted),
		"no free port is left in pool4: new flows are refused; add ports or addresses, or shorten timeouts"},
	{"stored SYNs", (*Gateway).useOfSYNs, drops(drop.StoredSYNLimit),
		"too many SYNs from IPv4 wait for a client's: new ones are refused; a host scans pool4, or sessions.max_stored_syns and those that begin like it are low"},
	{"fragment memory", (*Gateway).useOfFragments, drops(drop.FragmentMemory),
		"too many fragments wait for the rest of their datagrams: the oldest are discarded; raise fragments.memory"},
}

// drops counts the packets that were dropped for a reason.
func drops(r drop.Reason) func(*Gateway) uint64 {
	return func(g *Gateway) uint64 { return g.Counters.Drops(r) }
}

func (g *Gateway) useOfSessions() (n, most int) {
	for p := range packet.Protos {
		n += g.Sessions.Len(p)
	}
	return n, g.upkeep.max
}

func (g *Gateway) useOfInbound() (n, most int) {
	return g.Sessions.InboundLen(), g.Sessions.InboundQuota()
}

func (g *Gateway) useOfBindings() (n, most int) {
	for p := range packet.Protos {
		n += g.Bindings.Len(p)
	}
	return n, g.upkeep.max
}

// useOfPool4 counts ports that are held down as used: no client can have them.
func useOfPool4(p packet.Proto) func(*Gateway) (n, most int) {
	return func(g *Gateway) (n, most int) {
		free, all := g.Pool4.Free(p)
		return all - free, all
	}
}

func (g *Gateway) useOfSYNs() (n, most int) {
	return g.SYNs.Len(), g.settings.conf.Load().SYNs.Total
}

// useOfFragments returns the use of the fullest of those that put datagrams together, since each has all of the limit.
func (g *Gateway) useOfFragments() (n, most int) {
	return g.Counters.FragmentBytes(), g.settings.conf.Load().Fragments.Bytes
}

// watch is what has been logged of a limit.
type watch struct {
	warned         bool          // 80 % have been in use ever since that was logged
	nearAt, fullAt time.Duration // when either was logged last; 0: never
	refusals       uint64        // how many had been counted when they were
}

// watches are those of all limits. They belong to the goroutine that maintains.
type watches struct {
	of   [len(limits)]watch
	last time.Duration
}

// check logs limits that are near or reached, once a second at most.
func (ws *watches) check(g *Gateway, now time.Duration) {
	if ws.last != 0 && now-ws.last < watchEvery {
		return
	}
	ws.last = now
	for i := range limits {
		ws.of[i].checkUse(g, &limits[i], now)
		ws.of[i].checkRefusals(g, &limits[i], now)
	}
}

// checkUse logs that 80 % are in use, and then not again before it has been less.
func (w *watch) checkUse(g *Gateway, l *limit, now time.Duration) {
	if l.use == nil {
		return
	}
	n, most := l.use(g)
	if most == 0 || n*5 < most*4 {
		w.warned = false
		return
	}
	if w.warned || !rested(w.nearAt, now) {
		return
	}
	w.warned, w.nearAt = true, now
	g.upkeep.log.Warn("80 % or more of a limit are in use", "limit", l.name, "used", n, "of", most)
	g.upkeep.count.Happened(metrics.LimitNear)
}

// checkRefusals logs how many have been refused since that was logged last.
func (w *watch) checkRefusals(g *Gateway, l *limit, now time.Duration) {
	if l.refused == nil {
		return
	}
	n := l.refused(g)
	if n == w.refusals || !rested(w.fullAt, now) {
		return
	}
	g.upkeep.log.Warn(l.full, "count", n-w.refusals)
	g.upkeep.count.Happened(metrics.LimitReached)
	w.refusals, w.fullAt = n, now
}

// rested reports whether something that was logged at that time may be logged again.
func rested(at, now time.Duration) bool { return at == 0 || now-at >= logEvery }
