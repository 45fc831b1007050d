package gateway

import (
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Our own choices: the minimum interval of checks, a little less than that of the maintenance without traffic, and of log
// messages per limit. A check locks each address of pool4 briefly.
const (
	watchEvery = 900 * time.Millisecond
	logEvery   = time.Minute
)

// limit is a limit of which an operator should know before it is reached.
type limit struct {
	name    string                       // for the log
	use     func(*Gateway) (n, most int) // current use and maximum; 0: no limit. nil: only refusals are logged
	refused func(*Gateway) uint64        // counts refusals because of the limit; nil: another row has that
	full    string                       // log message for refusals
}

// limits are those of the whole gateway. Limits of clients require no action by an operator.
var limits = [...]limit{
	{"sessions", (*Gateway).useOfSessions, drops(drop.SessionLimit), "the table of sessions is full: new ones are refused; raise sessions.max"},
	{"memory", nil, drops(drop.MemoryLimit), "memory is scarce: new sessions are refused unless another has ended; raise memory_limit"},
	{"sessions begun from IPv4", (*Gateway).useOfInbound, drops(drop.InboundLimit),
		"IPv4 hosts have begun as many sessions as they may: new ones from IPv4 are refused; see sessions.max_inbound"},
	{"unanswered sessions", nil, func(g *Gateway) uint64 { return g.Sessions.Evicted() },
		"IPv4 hosts begin more sessions than they may: the oldest that no client has answered are evicted; a host floods or scans bound ports"},
	{"bindings", (*Gateway).useOfBindings, drops(drop.BindingLimit), "the table of bindings is full: new ones are refused; raise sessions.max"},
	{"tcp ports of pool4", useOfPool4(packet.TCP), nil, ""},
	{"udp ports of pool4", useOfPool4(packet.UDP), nil, ""},
	{"icmp identifiers of pool4", useOfPool4(packet.ICMP), nil, ""},
	{"ports of pool4", nil, drops(drop.PoolExhausted),
		"no free port is left in pool4: new flows are refused; add ports or addresses, or set sessions.reclaim to when_full"},
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

// useOfFragments returns the use of the fullest reassembler, since the limit applies to each.
func (g *Gateway) useOfFragments() (n, most int) {
	return g.Counters.FragmentBytes(), g.settings.conf.Load().Fragments.Bytes
}

// watch is the state of the messages about a limit.
type watch struct {
	warned         bool          // 80 % have been in use ever since that was logged
	nearAt, fullAt time.Duration // when each was last logged; 0: never
	refusals       uint64        // the number of refusals at that time
}

// watches are the states of all limits. Only the maintenance goroutine uses them.
type watches struct {
	of   [len(limits)]watch
	last time.Duration
}

// check logs limits that are near or reached, unless it has just done so.
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

// checkUse logs when 80 % are in use, and again only after the use was lower.
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

// checkRefusals logs the number of refusals since the last message.
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

// rested reports whether a message logged at that time may be repeated.
func rested(at, now time.Duration) bool { return at == 0 || now-at >= logEvery }
