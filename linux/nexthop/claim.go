//go:build linux

package nexthop

import (
	"container/heap"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"nat64d/packet"
)

// The constants of RFC 5227 section 1.1. The probe times are a twentieth of the RFC's, which allow for hosts that
// wait for a spanning tree: after a restart, the gateway must not leave its neighbours without replies for seven
// seconds. A slower owner is detected later, because addresses are monitored while they are held.
const (
	probeWait        = 50 * time.Millisecond
	probeNum         = 3
	probeMin         = 50 * time.Millisecond
	probeMax         = 100 * time.Millisecond
	announceWait     = 100 * time.Millisecond
	announceNum      = 2
	announceInterval = 2 * time.Second
	maxConflicts     = 10
	rateLimit        = time.Minute      // RATE_LIMIT_INTERVAL: minimum interval between probes of an address with maxConflicts
	retryConflict    = 10 * time.Second // DEFEND_INTERVAL: the same for an address with fewer conflicts
)

// Our own choices: the interval between two probes or announcements of any address, each of which is a broadcast to
// all stations, and how many addresses are probed at the same time. An address that a neighbour requests is probed
// immediately.
const (
	packetGap     = 10 * time.Millisecond
	probedAtOnce  = 8
	toldConflicts = 10 // conflicts per minute that are logged individually
)

// claimState is the progress of claiming an address.
type claimState uint8

const (
	waiting     claimState = iota // will be probed
	probing                       // probes sent, no reply so far
	held                          // no other station has it: requests are answered
	conflicting                   // another station has it, or probes for it
)

// claim is an address without an owner on the host for which the gateway should answer.
type claim struct {
	addr      packet.Addr4
	state     claimState
	sent      int       // number of probes or, if held, announcements
	at        time.Time // time of the next step
	place     int       // index in due; -1: no next step
	conflicts int
	owner     [6]byte // the other station
	asker     arp     // the last request received while probing; op 0: none
}

// claims are the addresses for which nat64d answers ARP. As in RFC 5227, each is probed before it is claimed, and
// monitored afterwards. An address of another station is given up immediately, not defended, and probed again later.
// claims does no I/O and reads no clock. It is safe for concurrent use.
type claims struct {
	random func(n time.Duration) time.Duration // a random duration in [0, n)
	log    *slog.Logger

	mu      sync.Mutex
	mac     [6]byte
	all     map[packet.Addr4]*claim
	queue   []*claim // addresses in state waiting, and some that have left it
	due     dueQueue
	probing int
	next    time.Time // no probe or announcement is sent earlier
	found   uint64    // total number of conflicts
	told    int       // conflicts in the minute that started at since
	since   time.Time
}

func newClaims(random func(time.Duration) time.Duration, log *slog.Logger) *claims {
	return &claims{random: random, log: log, all: make(map[packet.Addr4]*claim)}
}

// set replaces the addresses, all of which belong to the station mac. Addresses in both sets keep their state unless
// restart is true: after the link was down there may be other neighbours (RFC 5227 section 2.1). Held addresses are
// announced again if the MAC has changed.
func (c *claims) set(addrs []packet.Addr4, mac [6]byte, restart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.all
	if restart {
		old = nil
	}
	moved := mac != c.mac
	c.mac, c.all, c.queue, c.due, c.probing = mac, make(map[packet.Addr4]*claim, len(addrs)), nil, nil, 0
	for _, a := range addrs {
		l := old[a]
		if l == nil {
			l = &claim{addr: a, place: -1}
		}
		c.all[a] = l
		switch {
		case l.state == held && moved:
			l.sent, l.at, l.place = 0, time.Time{}, -1
			heap.Push(&c.due, l)
		case l.state == waiting:
			c.queue = append(c.queue, l)
		case l.place >= 0:
			heap.Push(&c.due, l)
		}
		if l.state == probing {
			c.probing++
		}
	}
}

// hear processes an ARP packet from another station. It returns the reply if the packet is a request for a held
// address. hurry reports whether a probe has become urgent.
func (c *claims) hear(q arp, now time.Time) (reply arp, answer, hurry bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.senderMAC == c.mac || !station48(q.senderMAC) {
		return arp{}, false, false
	}
	if l := c.all[q.senderIP]; l != nil {
		c.conflictLocked(l, q.senderMAC, now)
		return arp{}, false, false
	}
	l := c.all[q.targetIP]
	if l == nil || q.op != arpRequest {
		return arp{}, false, false
	}
	probe := q.senderIP == packet.Addr4{}
	switch {
	case l.state == held:
		return replyTo(q, c.mac), true, false
	case l.state == probing && probe: // two stations probe for it: neither may use it (section 2.1.1)
		c.conflictLocked(l, q.senderMAC, now)
	case l.state == probing && !probe:
		l.asker = q
	case l.state == waiting && !probe:
		l.asker = q
		c.beginLocked(l, now)
		return arp{}, false, true
	}
	return arp{}, false, false
}

// station48 reports whether a link-layer address can belong to a single station.
func station48(mac [6]byte) bool { return mac[0]&1 == 0 && mac != [6]byte{} }

// conflictLocked gives up an address. The caller holds c.mu.
func (c *claims) conflictLocked(l *claim, owner [6]byte, now time.Time) {
	if l.state == conflicting {
		l.owner = owner
		return
	}
	c.found++
	l.conflicts++
	c.tellLocked(l, owner, now)
	if l.state == probing {
		c.probing--
	}
	l.state, l.owner, l.asker = conflicting, owner, arp{}
	wait := retryConflict
	if l.conflicts >= maxConflicts {
		wait = rateLimit
	}
	c.scheduleLocked(l, now.Add(wait))
}

// tellLocked logs a conflict unless there are too many. The caller holds c.mu.
func (c *claims) tellLocked(l *claim, owner [6]byte, now time.Time) {
	if now.Sub(c.since) > time.Minute {
		c.since, c.told = now, 0
	}
	c.told++
	switch {
	case c.told <= toldConflicts:
		c.log.Warn("arp: another station has an address of pool4, not answering requests for it",
			"address", netip.AddrFrom4(l.addr), "station", net.HardwareAddr(owner[:]).String())
	case c.told == toldConflicts+1:
		c.log.Warn("arp: other stations have more addresses of pool4, see nat64ctl pool4 list")
	}
}

// beginLocked starts to probe an address at the given time. The caller holds c.mu.
func (c *claims) beginLocked(l *claim, at time.Time) {
	l.state, l.sent = probing, 0
	c.probing++
	c.scheduleLocked(l, at)
}

// scheduleLocked sets the time of the next step. The caller holds c.mu.
func (c *claims) scheduleLocked(l *claim, at time.Time) {
	l.at = at
	if l.place < 0 {
		heap.Push(&c.due, l)
		return
	}
	heap.Fix(&c.due, l.place)
}

// idle is the wait that step returns when no step is scheduled.
const idle = time.Hour

// step returns the next packet to send, if one is due, and the time until the next step.
func (c *claims) step(now time.Time) (m arp, to [6]byte, send bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		switch {
		case now.Before(c.next):
			return arp{}, to, false, c.next.Sub(now)
		case len(c.due) > 0 && !c.due[0].at.After(now):
			if m, to, send = c.advanceLocked(c.due[0], now); send {
				return m, to, true, 0
			}
		case len(c.queue) > 0 && c.probing < probedAtOnce:
			l := c.queue[0]
			c.queue = c.queue[1:]
			if l.state == waiting {
				c.beginLocked(l, now.Add(c.random(probeWait)))
			}
		case len(c.due) > 0:
			return arp{}, to, false, c.due[0].at.Sub(now)
		default:
			return arp{}, to, false, idle
		}
	}
}

// advanceLocked performs the next step of an address. It sends at most one packet. The caller holds c.mu.
func (c *claims) advanceLocked(l *claim, now time.Time) (m arp, to [6]byte, send bool) {
	switch {
	case l.state == conflicting:
		c.beginLocked(l, now.Add(c.random(probeWait)))
		return arp{}, to, false
	case l.state == probing && l.sent < probeNum:
		l.sent++
		wait := announceWait
		if l.sent < probeNum {
			wait = probeMin + c.random(probeMax-probeMin)
		}
		c.scheduleLocked(l, now.Add(wait))
		c.next = now.Add(packetGap)
		return arp{op: arpRequest, senderMAC: c.mac, targetIP: l.addr}, everyone, true
	case l.state == probing:
		c.probing--
		l.state, l.sent = held, 0
		if l.conflicts > 0 {
			c.log.Info("arp: conflict over an address of pool4 is resolved, answering requests again", "address", netip.AddrFrom4(l.addr))
		}
		q := l.asker
		l.asker = arp{}
		return replyTo(q, c.mac), q.senderMAC, q.op != 0 // the announcement follows
	}
	if l.sent++; l.sent < announceNum {
		c.scheduleLocked(l, now.Add(announceInterval))
	} else {
		heap.Remove(&c.due, l.place)
	}
	c.next = now.Add(packetGap)
	return announcement(l.addr, c.mac), everyone, true
}

// conflicts returns the number of conflicts.
func (c *claims) conflicts() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found
}

// state returns the state of an address and, in a conflict, the other station; false if the address is not in the
// set.
func (c *claims) state(a packet.Addr4) (s claimState, owner [6]byte, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.all[a]
	if l == nil {
		return 0, owner, false
	}
	return l.state, l.owner, true
}

// dueQueue is a heap of claims, ordered by the time of their next step.
type dueQueue []*claim

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) {
	l := x.(*claim)
	l.place = len(*q)
	*q = append(*q, l)
}

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	old := *q
	l := old[len(old)-1]
	l.place = -1
	*q = old[:len(old)-1]
	return l
}
