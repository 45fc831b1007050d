package session

import (
	"time"

	"nat64d/packet"
	"nat64d/table"
)

// word holds the mutable state of a session:
//
//	bits  0-31  since: when the lifetime began (table.Time plus origin)
//	bits 32-39  number of the NAT64 prefix that the client used last
//	bits 40-43  State; 0 is a slot without a session
//	bits 44-46  lifetime: index of the timeout
//	bit  47     an IPv4 host has opened it, and the client has not answered
//	bits 48-63  generation: counts the sessions of the slot; entry.cycle counts on
//
// Packets and the sweep change it by CAS. Only the goroutine that makes or purges a session stores it, under the lock
// of its shard. The generation makes a CAS fail that was prepared for an earlier session in the slot: the 16 bits
// suffice, because both happen within one batch, in which a slot is reused at most once.
type word uint64

// lifetime is an index of limits.
type lifetime uint8

const (
	lifeUDP lifetime = iota
	lifeICMP
	lifeEstablished
	lifeOpening
	lifeTransitory // after FINs or a RST
	lifeIdle       // after silence for TCP_EST; as long as lifeTransitory
	lifeAnswered   // of a UDP session to a short-lived port, after the first answer to the last packet of the client
	lifeRefused    // of a SYN that a RST has answered; as long as lifeOpening
	lifetimes
)

// origin is what the time of words counts from, a year before the gateway's start: the lifetime of a restored session began
// before that.
const origin = table.Time(365 * 24 * time.Hour / table.Tick)

// limits are the lifetimes in ticks.
type limits [lifetimes]table.Time

func makeWord(since table.Time, prefix uint8, s State, l lifetime) word {
	return word(since) | word(prefix)<<32 | word(s)<<40 | word(l)<<44
}

const unansweredBit word = 1 << 47

func (w word) since() table.Time  { return table.Time(w) }
func (w word) prefix() uint8      { return uint8(w >> 32) }
func (w word) state() State       { return State(w >> 40 & 15) }
func (w word) lifetime() lifetime { return lifetime(w >> 44 & 7) }
func (w word) unanswered() bool   { return w&unansweredBit != 0 }
func (w word) generation() word   { return w & (0xffff << 48) }

// with returns w with other contents, in the same generation.
func (w word) with(n word) word { return w.generation() | n&^(0xffff<<48) }

// freed returns the word of the slot after the session.
func (w word) freed() word { return w.generation() + 1<<48 }

// end returns the last tick of the session's lifetime, in which it still lives.
func (w word) end(l *limits) uint64 { return uint64(w.since()) + uint64(l[w.lifetime()]) }

// remaining returns what is left of the lifetime.
func (w word) remaining(l *limits, now table.Time) time.Duration {
	return time.Duration(w.end(l)-uint64(now)) * table.Tick
}

// idle returns the part of the lifetime that is over.
func (w word) idle(now table.Time) time.Duration {
	return max(now, w.since()).Duration() - w.since().Duration()
}

// expired reports whether the lifetime is over. The comparison is strict because the clock is coarse, so that a
// lifetime is never shorter than configured.
func (w word) expired(now table.Time, l *limits) bool { return uint64(now) > w.end(l) }

// settle returns the word with the transitions by time up to now: an expired ESTABLISHED session has entered TRANS when
// its lifetime ended, with TCP_TRANS (RFC 6146 section 3.5.2.2), even if the sweep, which sends the probe, has not
// visited it yet. The result may be expired in turn.
func (w word) settle(now table.Time, l *limits) word {
	if w.state() != Established || !w.expired(now, l) {
		return w
	}
	return w.with(makeWord(table.Time(w.end(l)), w.prefix(), Trans, lifeIdle) | w&unansweredBit)
}

// after returns the word after a step at time now.
func (w word) after(s step, now table.Time) word {
	since, life := w.since(), w.lifetime()
	if s.timer != keep && s.timer != refused {
		since = max(since, now) // workers' clocks may differ by a batch
	}
	switch s.timer {
	case established:
		life = lifeEstablished
	case opening:
		life = lifeOpening
	case transitory:
		life = lifeTransitory
	case refused:
		life = lifeRefused
	}
	return w.with(makeWord(since, w.prefix(), s.next, life) | w&unansweredBit)
}

// answered returns the word of a UDP session to a port of shortLived after a packet from a side. The first answer begins
// the short lifetime, which further answers do not prolong. Each packet of the client gives the session the whole
// lifetime again, because it may be a question.
func (w word) answered(from side, now table.Time) word {
	switch {
	case from == v6 && w.lifetime() == lifeAnswered:
		return w.with(makeWord(w.since(), w.prefix(), Active, lifeUDP) | w&unansweredBit)
	case from == v4 && w.lifetime() == lifeUDP && !w.unanswered():
		return w.with(makeWord(max(w.since(), now), w.prefix(), Active, lifeAnswered))
	}
	return w
}

// shortLived reports whether the protocol of a remote UDP port is one of a question and an answer, and its port well known,
// so that RFC 4787 REQ-5a allows a lifetime below 2 minutes: DNS and NTP.
func shortLived(port uint16) bool { return port == 53 || port == 123 }

// used returns the word with another prefix number.
func (w word) used(prefix uint8) word { return w&^(0xff<<32) | word(prefix)<<32 }

// answer returns the word after a packet of the client in the given state. Neither a SYN nor a RST answers a V4 SYN;
// see inbound.
func (w word) answer(in State, ev packet.TCPEvent) word {
	if w.unanswered() && (in == Active || in != V4Init && (ev == packet.Other || ev == packet.FIN)) {
		return w &^ unansweredBit
	}
	return w
}
