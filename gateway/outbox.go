package gateway

import (
	"errors"
	"io/fs"
	"time"

	"nat64d/packet"
	"nat64d/xlat"
)

// scratch is room for the largest header that is written: Ethernet, IPv6, ICMPv6 or a TCP header with all its options.
const scratch = 192

// outbox is the packets of one batch that leave on one side. It belongs to one worker.
type outbox struct {
	link  *link
	outs  [batch]packet.Out
	n     int
	bytes [batch][scratch]byte
	big   [batch][]byte // for ICMP errors, whose quoted packet is rewritten; made when first needed
}

func (b *outbox) init(l *link) {
	b.link = l
}

// next returns the free slot with room for headers; it is the caller's until keep.
func (b *outbox) next() *packet.Out {
	o := &b.outs[b.n]
	o.Head, o.More = b.bytes[b.n][:0], nil
	return o
}

// large returns the free slot with room for a whole ICMP error.
func (b *outbox) large() *packet.Out {
	if b.big[b.n] == nil {
		b.big[b.n] = make([]byte, xlat.ErrorRoom)
	}
	o := &b.outs[b.n]
	o.Head, o.More = b.big[b.n][:0], nil
	return o
}

// keep takes the free slot into the batch and says whether the outbox is now full.
func (b *outbox) keep() (full bool) {
	b.n++
	return b.n == batch
}

// flush sends the packets, joined where they can be if there is a merger, and returns how many could not be sent. A port whose
// NIC has gone may have a successor already: what was not sent at all is sent by that one.
func (b *outbox) flush(now time.Duration, m *merger, id func(*packet.Out, int) uint16) (refused int) {
	if b.n == 0 {
		return 0
	}
	n := b.n
	b.n = 0
	if !b.link.ready(now) {
		return n
	}
	outs := b.outs[:n]
	if m != nil {
		outs = m.merge(outs, id)
	}
	refused, err := b.link.port.Send(outs)
	if err != nil && b.link.failed() && refused == n && b.link.ready(now) {
		if refused, err = b.link.port.Send(outs); err != nil {
			b.link.failed()
		}
	}
	return refused
}

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

// again is ensure for a port that is missed: it tells what came of it.
func (l *link) again() error {
	err := l.ensure()
	l.outage.tried(err)
	return err
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

// failed closes a port that could not send, and says so. One that also receives is left to who receives, which notices as
// well, and says what happened; until then the packets of a batch lie in its memory.
func (l *link) failed() bool {
	if !l.receives {
		l.close()
	}
	return !l.receives
}

func (l *link) close() {
	if l.port != nil {
		l.lost.Add(l.port.Drops())
		_ = l.port.Close() // there is nothing to be done about a NIC that is gone
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
