package gateway

import (
	"errors"
	"io/fs"
	"time"

	"nat64d/packet"
)

// link is a port that is opened again when it has failed.
type link struct {
	open     func() (Port, error)
	port     Port
	receives bool
	outage   *outage // of its side
	tried    time.Duration
	lost     packet.Drops // of ports that are closed
}

func (l *link) ensure() (err error) {
	if l.port == nil {
		l.port, err = l.open()
	}
	return err
}

// first is ensure before packets are carried: a NIC that does not exist yet is no error.
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

// Send sends packets through the port. A port whose NIC has gone may have a successor already: what was not sent at all is sent by
// that one.
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

// packets counts packets, those that were joined to others included.
func packets(outs []packet.Out) (n int) {
	for i := range outs {
		n += 1 + len(outs[i].More)
	}
	return n
}

// ready opens the port if need be, but tries that no more often than every retry.
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
	}
}

// drops returns how many packets have arrived and were not handed over.
func (l *link) drops() packet.Drops {
	d := l.lost
	if l.port != nil {
		d.Add(l.port.Drops())
	}
	return d
}
