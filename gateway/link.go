package gateway

import (
	"errors"
	"io/fs"
	"sync/atomic"
	"time"

	"nat64d/packet"
)

// link is a port that is opened again after a failure.
type link struct {
	open     func() (Port, error)
	port     Port
	current  atomic.Pointer[Port] // port, for wake
	receives bool
	outage   *outage // of its side
	tried    time.Duration
	lost     packet.Drops // of closed ports
}

func (l *link) ensure() (err error) {
	if l.port == nil {
		l.port, err = l.open()
		l.publish()
	}
	return err
}

// first opens the port before the start; a NIC that does not exist is not an error.
func (l *link) first() error {
	if err := l.ensure(); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// again is ensure for a port that is missed: it logs the result.
func (l *link) again() error {
	err := l.ensure()
	l.outage.tried(err)
	return err
}

// Send sends packets through the port. If the NIC was replaced, it sends packets that were not sent at all through a
// new port.
func (l *link) Send(outs []packet.Out, now time.Duration) (refused int) {
	n := packets(outs)
	if !l.ready(now) {
		return n
	}
	refused, err := l.port.Send(outs)
	if err != nil && l.failed() && refused == n && l.ready(now) {
		if refused, err = l.port.Send(outs); err != nil {
			l.failed()
		}
	}
	return refused
}

// packets counts packets, including coalesced ones.
func packets(outs []packet.Out) (n int) {
	for i := range outs {
		n += 1 + len(outs[i].More)
	}
	return n
}

// ready opens the port if necessary, at most once per retry interval.
func (l *link) ready(now time.Duration) bool {
	if l.port == nil && (l.tried == 0 || now-l.tried >= retry) {
		l.tried = now
		if l.again() != nil {
			return false
		}
	}
	return l.port != nil
}

// failed closes a port that could not send, and reports whether it did. It leaves a port that also receives to ingress, which
// notices the failure as well and logs it; until then the packets of a batch lie in its memory.
func (l *link) failed() bool {
	if !l.receives {
		l.close()
	}
	return !l.receives
}

func (l *link) close() {
	if l.port != nil {
		l.lost.Add(l.port.Drops())
		_ = l.port.Close() // the NIC may be gone: an error changes nothing
		l.port = nil
		l.publish()
	}
}

// publish makes the port known to other goroutines.
func (l *link) publish() {
	var current *Port
	if p := l.port; p != nil {
		current = &p
	}
	l.current.Store(current)
}

// drops returns how many packets have arrived and were not delivered.
func (l *link) drops() packet.Drops {
	d := l.lost
	if l.port != nil {
		d.Add(l.port.Drops())
	}
	return d
}
