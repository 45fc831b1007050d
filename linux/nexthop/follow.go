//go:build linux

package nexthop

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// coalesce is the minimum interval between two snapshots: changes within it are published together. A change
	// after a quiet period is published immediately, so that the first packet to a new neighbour does not wait.
	coalesce = 10 * time.Millisecond
	// tick is the interval of the check for stale neighbours in use.
	tick = time.Second
	// restraint limits full reads: the interval to the next one is at least restraint times the duration of the last
	// one. A host with very many routes and an unstable interface thus spends at most a fifth of one CPU on them.
	restraint = 4
	// receiveBuffer has room for a burst of messages, such as from a starting routing daemon. An overrun only causes
	// a full read.
	receiveBuffer = 4 << 20
)

// groups are the kernel's multicast groups for changes. Routes and neighbours, which can be numerous, are updated
// message by message; a message of any other group causes a full read.
var groups = []uint{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
	unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
	unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV6_IFINFO,
	unix.RTNLGRP_IPV6_NETCONF,
	unix.RTNLGRP_NEXTHOP,
}

// follower is the state of Run. Only Run's goroutine uses it.
type follower struct {
	t        *Table
	kernel   *kernel
	proxy    *proxy
	moves    *announcer
	owned    hostAddresses
	next     snapshot  // the next snapshot to publish
	changed  bool      // next differs from the published snapshot
	lost     bool      // next lacks the link-layer address of a neighbour that the published snapshot has
	stale    bool      // next requires a full read
	exposed  bool      // next requires at least a read of the IPsec policies
	told     bool      // the warning about IPsec policies has been logged
	quiet    time.Time // time of the next permitted publication
	reread   time.Time // time of the next permitted full read
	timer    *time.Timer
	searches [sides]searches
}

// batch is the result of one read from a netlink socket.
type batch struct {
	messages []syscall.NetlinkMessage
	err      error
	panicked *relayed // reading has
}

// Run follows the kernel until ctx is done, and then returns nil. In a process with several network namespaces, the
// calling goroutine must be locked to a thread in the namespace of New.
func (t *Table) Run(ctx context.Context) error {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, groups...)
	if err != nil {
		return fmt.Errorf("netlink: subscribe: %w", err)
	}
	if err := events.SetReceiveBufferSize(receiveBuffer, true); err != nil {
		t.log.Debug("netlink: cannot enlarge the receive buffer", "error", err)
	}
	policies, err := subscribeIPsec()
	if err != nil {
		events.Close()
		return err
	}
	k, err := openKernel()
	if err != nil {
		events.Close()
		if policies != nil {
			policies.Close()
		}
		return err
	}
	defer k.close()
	f := &follower{
		t:        t,
		kernel:   k,
		proxy:    &proxy{t: t, timer: time.NewTimer(idle), panicked: make(chan *relayed, 1)},
		moves:    &announcer{t: t, known: make(map[netip.Addr][6]byte)},
		owned:    make(hostAddresses),
		next:     *t.state.Load(),
		stale:    true, // for changes between New and the subscription
		timer:    time.NewTimer(0),
		searches: [sides]searches{v6: newSearches(v6), v4: newSearches(v4)},
	}
	f.owned.saw(f.next.hosts)
	f.moves.update(&f.next, time.Now())
	defer f.proxy.close()
	routing, stop := listen(events)
	defer stop()
	if policies == nil {
		return f.run(ctx, routing, nil)
	}
	security, stop := listen(policies)
	defer stop()
	return f.run(ctx, routing, security)
}

// listen starts to receive from a socket. stop closes the socket and waits until the receiver has ended.
func listen(s *nl.NetlinkSocket) (batches <-chan batch, stop func()) {
	c := make(chan batch)
	go receive(s, c)
	return c, func() {
		s.Close()
		for range c { // until the receiver has ended
		}
	}
}

// receive sends messages of the kernel to the channel until the socket fails, for example because it was closed.
func receive(s *nl.NetlinkSocket, to chan<- batch) {
	defer close(to)
	defer relay(func(r *relayed) { to <- batch{panicked: r} })
	for {
		m, from, err := s.Receive()
		if err == nil && from.Pid != nl.PidKernel {
			continue // not from the kernel: any process may send to us
		}
		to <- batch{messages: m, err: err}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
	}
}

// relay panics if reading has.
func (b *batch) relay() {
	if b.panicked != nil {
		panic(b.panicked)
	}
}

// run is the main loop of Run.
func (f *follower) run(ctx context.Context, routing, security <-chan batch) error {
	seconds := time.NewTimer(tick)
	defer seconds.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case b, ok := <-routing:
			if !ok {
				return errSubscription
			}
			b.relay()
			if err := f.take(b); err != nil {
				return err
			}
			f.publish()
		case b, ok := <-security:
			if !ok {
				return errSubscription
			}
			b.relay()
			if b.err != nil && !errors.Is(b.err, unix.ENOBUFS) {
				return fmt.Errorf("netlink: receive: %w", b.err)
			}
			f.exposed = true
			f.publish()
		case r := <-f.proxy.panicked:
			panic(r)
		case a := <-f.t.asks:
			f.resolve(&a, time.Now())
		case <-f.t.reproxy:
			f.proxy.update()
		case <-f.t.moved:
			f.stale = true
			f.publish()
		case <-f.t.hurry:
			f.proxy.step()
		case <-f.proxy.timer.C:
			f.proxy.step()
		case <-f.timer.C:
			f.publish()
		case now := <-seconds.C:
			seconds.Reset(now.Truncate(tick).Add(tick).Sub(now)) // at full seconds, as other checks of an idle gateway
			f.t.asked.epoch.Add(1)
			f.refresh(now)
			f.moves.repeat(&f.next, now)
			for d := range f.searches {
				f.searches[d].expire(now)
			}
		}
	}
}

var errSubscription = errors.New("netlink: the subscription ended")

// take applies a batch of messages to next.
func (f *follower) take(b batch) error {
	switch {
	case errors.Is(b.err, unix.ENOBUFS):
		f.t.log.Info("netlink: receive buffer overrun, reading all routes again")
		f.stale = true
	case b.err != nil:
		return fmt.Errorf("netlink: receive: %w", b.err)
	}
	for _, m := range b.messages {
		f.message(m.Header.Type, m.Header.Flags, m.Data)
	}
	return nil
}

// message applies one message to next.
func (f *follower) message(kind, flags uint16, data []byte) {
	switch kind {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		c, ok := parseRoute(data)
		if !ok {
			return
		}
		c.del, c.replace = kind == unix.RTM_DELROUTE, flags&unix.NLM_F_REPLACE != 0
		changed, known := f.next.fib.update(c)
		f.changed, f.stale = f.changed || changed, f.stale || !known
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n, err := netlink.NeighDeserialize(data)
		if err != nil {
			return
		}
		for d := range f.next.nics {
			f.searches[d].heard(n, kind == unix.RTM_DELNEIGH)
			changed, lost := f.next.nics[d].update(n, kind == unix.RTM_DELNEIGH)
			f.changed, f.lost = f.changed || changed, f.lost || lost
			f.next.share()
		}
	case unix.RTM_NEWADDR:
		if a, ok := parseHostAddress(data); ok {
			f.owned[a] = true // it may be deleted again before the full read
		}
		f.stale = true
	default:
		f.stale = true
	}
}

// publish publishes next, immediately or at the end of the quiet period. A full read may have to wait longer; other
// changes do not wait for it.
func (f *follower) publish() {
	now := time.Now()
	read := (f.stale || f.exposed) && !now.Before(f.reread)
	switch wait := f.quiet.Sub(now); {
	case !f.changed && !f.stale && !f.exposed:
		return
	case !f.changed && !read:
		f.timer.Reset(f.reread.Sub(now))
		return
	case wait > 0:
		f.timer.Reset(wait)
		return
	}
	before := *f.t.state.Load()
	if read && !f.read(&before) {
		f.timer.Reset(tick)
		return
	}
	f.changed = false
	f.next.choose()
	s := f.next
	if f.lost || s.linkUp(&before) {
		f.lost = false
		f.t.asked.epoch.Add(1) // allow requests that were made in this second already
	}
	f.t.publish(&s)
	f.quiet = now.Add(coalesce)
	if f.stale || f.exposed {
		f.timer.Reset(time.Until(f.reread))
	}
	f.warn()
	if read {
		f.notify(&before)
	}
	if f.next.surroundingsDiffer(&before) {
		for _, call := range f.t.onSurroundings {
			call()
		}
	}
}

// warn logs once that there are IPsec policies that may match translated packets.
func (f *follower) warn() {
	exist := false
	for d := range f.next.nics {
		exist = exist || f.next.ipsec[d] != nil && !f.next.nics[d].pair()
	}
	if exist && !f.told {
		f.t.log.Warn("this host has IPsec policies (ip xfrm policy): translated packets that match one are dropped (ipsec), " +
			"since they would leave unencrypted; exempt them with a policy of higher precedence without a template")
	}
	f.told = exist
}

// read does a full read into next, or reads only the IPsec policies if nothing else requires it. It returns false on
// failure, and Run tries again later.
func (f *follower) read(before *snapshot) bool {
	start := time.Now()
	err := f.readInto(before)
	if err != nil {
		f.t.log.Error("cannot read the kernel's routes, retrying", "error", err)
		f.reread = start.Add(tick)
		return false
	}
	f.reread = time.Now().Add(restraint * time.Since(start))
	return true
}

func (f *follower) readInto(before *snapshot) error {
	if !f.stale {
		f.kernel.interrupted = false
		policies, err := f.kernel.ipsec()
		if err != nil {
			return err
		}
		f.next.ipsec, f.exposed = policies, f.kernel.interrupted
		return nil
	}
	s, err := f.kernel.snapshot(*f.t.names.Load(), before)
	if err != nil {
		return err
	}
	s.lost = f.owned.saw(s.hosts)
	for d := range s.nics {
		f.lost = f.lost || s.nics[d].lacks(&before.nics[d])
	}
	f.next, f.stale, f.exposed = *s, f.kernel.interrupted, false
	return nil
}

// notify calls the observers of links and addresses, which only a full read changes.
func (f *follower) notify(before *snapshot) {
	f.proxy.update()
	f.searchAgain(before)
	f.moves.update(&f.next, time.Now())
	linksChanged := false
	for d := range f.next.nics {
		old, now := before.nics[d].Link, f.next.nics[d].Link
		if old != now {
			linksChanged = true
			f.t.log.Info("interface changed", "interface", now.Name, "index", now.Index, "up", now.Up, "mtu", now.MTU)
		}
	}
	if !linksChanged {
		return
	}
	for _, call := range f.t.onLink {
		call()
	}
}

// searchAgain makes the kernel forget its unanswered questions on interfaces that have come up, so that the next request sends
// another one at once. The kernel would repeat them only after a second, since it has sent them without a carrier.
func (f *follower) searchAgain(before *snapshot) {
	for d := range f.next.nics {
		if !f.next.nics[d].Up || before.nics[d].Up {
			continue
		}
		for addr := range f.searches[d].of {
			f.searches[d].end(addr)
			if err := f.kernel.forget(f.next.nics[d].Index, addr); err != nil {
				f.t.log.Debug("cannot delete neighbour", "interface", f.next.nics[d].Name, "error", err)
			}
		}
	}
}

// resolve executes a request of a look-up. It ignores known neighbours, and retries a failed one at most once per
// refreshFailed.
func (f *follower) resolve(a *ask, now time.Time) {
	nic := &f.next.nics[a.side]
	if nic.Index == 0 {
		return
	}
	n, _ := nic.neighbours.Lookup(a.addr)
	if n != nil && (!n.failed || now.Sub(n.refreshed) < refreshFailed) {
		return
	}
	start, refused := f.searches[a.side].begin(a, now)
	if refused {
		f.t.asked.forget(*a)
	}
	if !start {
		return
	}
	if n != nil {
		n.refreshed = now
	}
	if err := f.kernel.resolve(nic.Index, a.addr); err != nil {
		f.searches[a.side].end(a.addr)
		f.t.asked.forget(*a)
		f.t.log.Debug("cannot resolve next hop", "interface", nic.Name, "error", err)
	}
}

// refresh asks the kernel to probe the neighbours in use that are stale. They already have entries in the kernel's
// table.
func (f *follower) refresh(now time.Time) {
	for d := range f.next.nics {
		nic := &f.next.nics[d]
		if side(d) == v4 && f.next.oneNIC() {
			return
		}
		for p, n := range nic.neighbours.All() {
			if !n.due(now) {
				continue
			}
			if err := f.kernel.resolve(nic.Index, p.Addr()); err != nil {
				f.t.log.Debug("cannot refresh neighbour", "interface", nic.Name, "error", err)
			}
		}
	}
}
