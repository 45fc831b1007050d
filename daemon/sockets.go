//go:build linux

package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"nat64d/linux/guard"
	"nat64d/packet"
)

// Our own choices: the interval between listings of the host's sockets, the maximum share of a processor for them,
// and the maximum number of sockets in the log and the status.
const (
	lookAtSockets = 5 * time.Second
	socketsShare  = 100 // 1 %
	socketsNamed  = 5
)

// hostSockets are the host's sockets on transport addresses of pool4 that the guard cuts off, because the operator
// used force or because they are newer. It is safe for concurrent use.
type hostSockets struct {
	mu    sync.Mutex
	known map[overlap]bool
	told  []string // sentences for the status
}

// overlap identifies a port of the host. All connections of a listener count as one.
type overlap struct {
	proto packet.Proto
	local netip.AddrPort
}

// warnings returns a sentence for each of the first sockets.
func (o *hostSockets) warnings() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.told
}

// take replaces the sockets and returns a sentence for each new one.
func (o *hostSockets) take(found []guard.Socket) (news []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := make(map[overlap]bool)
	var all, fresh []guard.Socket
	for _, s := range found {
		k := overlap{s.Entry.Proto, s.Local}
		if next[k] {
			continue
		}
		next[k] = true
		all = append(all, s)
		if !o.known[k] {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) > 0 || len(next) != len(o.known) {
		o.told = cutOff(all)
	}
	o.known = next
	return cutOff(fresh)
}

// cutOff returns a sentence for each of the first sockets, and one with the number of the others.
func cutOff(list []guard.Socket) (sentences []string) {
	named := list[:min(len(list), socketsNamed)]
	for i, description := range guard.Describe(named) {
		sentences = append(sentences, fmt.Sprintf("%s, a port of pool4 %v: the guard cuts it off", description, named[i].Entry))
	}
	if n := len(list) - len(named); n > 0 {
		sentences = append(sentences, fmt.Sprintf("%d more sockets of this host on ports of pool4 are cut off: ss -tuanp lists them", n))
	}
	return sentences
}

// watchSockets warns of the host's sockets on ports of pool4 until ctx is done.
func (d *Daemon) watchSockets(ctx context.Context) error {
	if d.guard.g == nil {
		return nil // without a guard nothing is cut off
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-d.events.pool4:
		}
		start := time.Now()
		d.admin.Lock()
		entries := d.takenLocked()
		d.admin.Unlock()
		found, err := d.guard.g.Sockets(entries)
		if err == nil {
			for _, sentence := range d.sockets.take(found) {
				d.log.Warn(sentence)
			}
		} else {
			d.log.Debug("cannot list the sockets of this host, retrying", "error", err)
		}
		timer.Reset(max(untilNext(lookAtSockets), socketsShare*time.Since(start)))
	}
}
