// Package egress takes translated packets until they leave. It looks up the next hop, cuts what its MTU does not carry, numbers
// IPv4 packets, joins consecutive packets of a flow into super-packets, and keeps what is ready in outboxes until the batch ends.
//
//	hop.go             next hops, their MTU, and the link header
//	send.go            how large a packet may leave, and the MTU to report if it is larger
//	cut.go             fragments, and the datagrams of a UDP super-packet
//	identification.go  IPv4 Identifications
//	pathmtu.go         path MTUs below those that IPv6 knows
//	coalesce.go        super-packets
//	outbox.go          the packets of a batch
package egress

import (
	"time"

	"nat64d/fragment"
	"nat64d/ops/metrics"
	"nat64d/packet"
)

// Config is the configuration of a batch.
type Config struct {
	MTU6, MTU4    uint32 // of the two links, in bytes, if less than Hops reports; 0: as Hops reports
	LowestIPv6MTU int    // largest IPv6 packet made of an IPv4 packet that may be fragmented, in bytes
	ClampMSS      int    // upper bound of the TCP MSS option; 0: none, AutoMSS: by the MTUs of the links
	Coalesce      bool   // coalesce consecutive packets of a flow into super-packets
	TCPOnly       bool   // only TCP packets
}

// AutoMSS as Config.ClampMSS keeps TCP segments within the MTUs of both links.
const AutoMSS = -1

// Options are the parameters of a Sender.
type Options struct {
	Hops          Hops
	Links         [2]Link // to the IPv6 and the IPv4 network
	Paths         *Paths
	Count         *metrics.Worker
	Origin        packet.Origin // of the packets that the worker receives
	Worker, Peers int           // Worker is its index among Peers workers that may send from the same addresses; each has its own Identifications
}

// Sender sends the packets of one worker. It is not safe for concurrent use. The caller writes a packet into the slot
// that Next or Large returns, and passes it to Send4 or Send6 or, if the gateway originates it, to Post4 or Post6.
type Sender struct {
	conf      Config
	now       time.Duration // of the batch
	hops      Hops
	selectors selectors
	origin    packet.Origin
	paths     *Paths
	pieces    fragment.Pieces
	head      []byte // headers of a super-packet whose datagrams are fragmented
	ids       ids
	block     func(*packet.Out, int) uint16 // ids.block, created once
	merger    merger
	to        [packet.Families]outbox
	count     *metrics.Worker
	carried   tally
	watcher   Watcher // may be nil
}

// Watcher learns of every packet when it goes into its outbox.
type Watcher interface {
	// Departs gets the two parts of the IP packet, which are valid until it returns. They are separate arguments, because a pointer to
	// the packet would have the compiler allocate it.
	Departs(f packet.Family, head, payload []byte, off packet.Offload)
}

// tally counts the packets and bytes that a batch has forwarded, by direction and protocol.
type tally [metrics.Hairpin + 1][packet.Protos]forwarded

type forwarded struct{ packets, bytes uint64 }

// New returns a Sender without configuration: Begin sets it.
func New(o Options) *Sender {
	s := &Sender{hops: o.Hops, origin: o.Origin, paths: o.Paths, count: o.Count}
	s.ids.seed(o.Worker, o.Peers)
	s.block = s.ids.block
	for f := range s.to {
		s.to[f].link = o.Links[f]
	}
	return s
}

// Begin starts a batch.
func (s *Sender) Begin(now time.Duration, c *Config) { s.now, s.conf = now, *c }

// Watch makes w learn of the packets from now on; nil ends that.
func (s *Sender) Watch(w Watcher) { s.watcher = w }

// Next6 and Next4 return the slot for the next packet into a network, with room for headers.
func (s *Sender) Next6() *packet.Out { return s.to[packet.V6].next() }
func (s *Sender) Next4() *packet.Out { return s.to[packet.V4].next() }

// Large6 and Large4 return the slot with room for a whole ICMP error.
func (s *Sender) Large6() *packet.Out { return s.to[packet.V6].large() }
func (s *Sender) Large4() *packet.Out { return s.to[packet.V4].large() }

// Post6 and Post4 send o, a packet that the gateway originates, in the slot of its family.
func (s *Sender) Post6(o *packet.Out, h *packet.Hop) { s.post(packet.V6, o, h) }
func (s *Sender) Post4(o *packet.Out, h *packet.Hop) { s.post(packet.V4, o, h) }

func (s *Sender) post(f packet.Family, o *packet.Out, h *packet.Hop) {
	if s.watcher != nil {
		s.watcher.Departs(f, o.Head[packet.Headroom:], o.Payload, o.Offload)
	}
	ethernet(o, f, h)
	if s.to[f].keep() {
		s.Flush()
	}
}

// Flush sends the packets in the outboxes.
func (s *Sender) Flush() {
	m := &s.merger
	m.tcpOnly = s.conf.TCPOnly
	if !s.conf.Coalesce {
		m = nil
	}
	for f := range s.to {
		if refused := s.to[f].flush(s.now, m, s.block); refused > 0 {
			s.count.Refused(f, uint64(refused))
		}
	}
}

// Waiting returns the number of packets in the outboxes.
func (s *Sender) Waiting() int { return s.to[packet.V6].n + s.to[packet.V4].n }

// Publish adds the forwarded packets of the batch to the counters.
func (s *Sender) Publish() {
	for d := range s.carried {
		for p := range s.carried[d] {
			if c := &s.carried[d][p]; c.packets > 0 {
				s.count.Forwarded(metrics.Direction(d), metrics.Protocol(p), c.packets, c.bytes)
				*c = forwarded{}
			}
		}
	}
	if n := &s.merger.joined; *n > 0 {
		s.count.Joined(*n)
		*n = 0
	}
}
