package gateway

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// cookieLen is the length of the random number in each ping.
const cookieLen = 8

// Pong is the result of a ping.
type Pong struct {
	Took    time.Duration
	Dropped drop.Reason // why it was not sent; None: it was answered
	Refused bool        // the answer is an ICMP error
	From    netip.Addr  // the sender of the error
	Type    uint8       // of the error
	Code    uint8
	MTU     int // of a Fragmentation Needed
}

// ping is one request.
type ping struct {
	to                   packet.Addr4
	size                 int // of the IPv4 packet
	identifier, sequence uint16
	cookie               uint64
}

// pings are the requests that wait for an answer. Their source is in a prefix that is never routed (RFC 6666) and random, so
// that nothing else has it. The answers are recognized by that, and by the cookie. Any goroutine may call the methods.
type pings struct {
	client     packet.Addr6
	identifier uint16
	mail       mailbox[ping]

	mu      sync.Mutex
	last    uint16
	waiting map[uint16]waitingPing
}

type waitingPing struct {
	cookie uint64
	answer chan Pong
}

func (g *pings) init() {
	g.client = packet.Addr6{0: 1}
	binary.BigEndian.PutUint64(g.client[8:], rand.Uint64())
	g.identifier = uint16(rand.Uint32())
	g.waiting = map[uint16]waitingPing{}
}

// begin returns a new request and the channel for its answer.
func (g *pings) begin(to packet.Addr4, size int) (ping, chan Pong) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	w := waitingPing{cookie: rand.Uint64(), answer: make(chan Pong, 1)}
	g.waiting[g.last] = w
	return ping{to: to, size: size, identifier: g.identifier, sequence: g.last, cookie: w.cookie}, w.answer
}

// waits reports whether the answer to a request is still of interest.
func (g *pings) waits(sequence uint16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.waiting[sequence]
	return ok
}

// end forgets a request.
func (g *pings) end(sequence uint16) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, sequence)
}

// answered passes an answer on; the first one counts.
func (g *pings) answered(sequence uint16, p Pong) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if w, ok := g.waiting[sequence]; ok {
		select {
		case w.answer <- p:
		default:
		}
	}
}

// pong processes an echo reply to a ping.
func (w *worker) pong(p *inflight) drop.Reason {
	b := p.view.Transport()
	p.left = true
	if len(b) < packet.ICMPLen+cookieLen {
		return drop.None
	}
	sequence, cookie := binary.BigEndian.Uint16(b[6:]), binary.BigEndian.Uint64(b[packet.ICMPLen:])
	g := &w.g.pings
	g.mu.Lock()
	ours := g.waiting[sequence].cookie == cookie
	g.mu.Unlock()
	if ours {
		g.answered(sequence, Pong{})
	}
	return drop.None
}

// refusedPing processes an ICMP error about a ping. Routers quote at least its ICMP header (RFC 792).
func (w *worker) refusedPing(p *inflight, m *message) drop.Reason {
	p.left = true
	b := m.quote.Transport()
	if len(b) < packet.ICMPLen {
		return drop.None
	}
	r := Pong{Refused: true, From: netip.AddrFrom4(*p.view.IP4().Src()), Type: m.kind.Type, Code: m.kind.Code}
	if m.kind == (drop.Answer{Type: 3, Code: 4}) {
		r.MTU = int(m.rest & 0xffff)
	}
	w.g.pings.answered(binary.BigEndian.Uint16(b[6:]), r)
	return drop.None
}
