//go:build linux

// Package afpacket transfers batches of IP packets between the Ethernet NICs of Linux (RFC 894, RFC 2464) and byte
// slices, using AF_PACKET sockets (packet(7)). Super-packets of up to 64 KiB and partial checksums are passed on
// unchanged, described by a packet.Offload: a gateway in user space owes its speed to the segmentation offload of
// NICs and veths.
package afpacket

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"time"

	"nat64d/packet"

	"golang.org/x/sys/unix"
)

// etherType returns the EtherType of a family.
func etherType(f packet.Family) uint32 {
	if f == packet.V4 {
		return unix.ETH_P_IP
	}
	return unix.ETH_P_IPV6
}

// Engine is a method of receiving packets from the kernel. All engines deliver the same frames; they differ in the
// cost per packet.
type Engine uint8

// The engines, fastest first. Costs are processor time per small packet, measured on veth.
const (
	Auto   Engine = iota // Ring, or Mmsg if the kernel provides no ring, or no filter that is safe for one
	Ring                 // a ring in shared memory (TPACKET_V2), no system call under load: 1.6 µs
	Mmsg                 // recvmmsg, a batch of packets per system call: 2.3 µs
	Simple               // one system call per packet, with package mdlayher/packet: 4.4 µs
)

var engineNames = [...]string{Auto: "auto", Ring: "ring", Mmsg: "mmsg", Simple: "simple"}

// String returns the engine's name as accepted by ParseEngine.
func (e Engine) String() string { return engineNames[e] }

// ParseEngine returns the engine called s.
func ParseEngine(s string) (Engine, error) {
	for e, name := range engineNames {
		if s == name {
			return Engine(e), nil
		}
	}
	return Auto, fmt.Errorf("afpacket: engine %q: must be auto, ring, mmsg or simple", s)
}

// batch is the maximum number of packets of one Receive, and of one system call for sending, except with Simple.
const batch = 64

// Options are the parameters of a port. The zero values of all fields except Interface are good defaults.
type Options struct {
	Interface string        // name of the NIC, which must be an Ethernet one
	Family    packet.Family // of the packets to receive; a sender does not use it
	Engine    Engine        // how packets are received
	// BusyPoll is how long Receive polls for packets before it sleeps. Polling removes the wake-up from a round trip,
	// but uses a whole processor. 0: no polling; AdaptivePoll: the port decides.
	BusyPoll time.Duration
	// Processors is shared by all ports of the process with AdaptivePoll.
	Processors *Processors
	// Screens is shared by all ports of the process. Nil: each Ring loads its own filter.
	Screens *Screens
	// Group is the number, in this network namespace, of the ports that share the packets of a NIC and family. All
	// packets of a flow in one direction go to the same port. 0: this port receives all packets. Simple does not
	// support groups.
	Group uint16
	// NoBursts sends each packet separately, even if the kernel could accept several at once.
	NoBursts bool
}

func (o Options) check() error {
	if o.Family >= packet.Families {
		return fmt.Errorf("afpacket: family %d: must be packet.V6 or packet.V4", uint8(o.Family))
	}
	switch {
	case o.Engine > Simple:
		return fmt.Errorf("afpacket: engine %d: must be Auto, Ring, Mmsg or Simple", o.Engine)
	case o.Group != 0 && o.Engine == Simple:
		return errors.New("afpacket: the simple engine supports only one worker: use ring or mmsg for several workers")
	}
	return nil
}

// Open opens a port that receives the packets of one family from a NIC and sends packets of either family. It needs
// CAP_NET_RAW and CAP_NET_ADMIN; Ring also needs CAP_BPF and CAP_PERFMON. The link of the NIC may be down: the port
// receives packets once it is up.
func Open(o Options) (*Port, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p, ifi, err := openSender(o)
	if err != nil {
		return nil, err
	}
	if err := p.openReceiver(ifi, o); err != nil {
		_ = p.Close() // the first error is the relevant one
		return nil, fmt.Errorf("afpacket: %s: %w", o.Interface, err)
	}
	return p, nil
}

// OpenSender opens a port that only sends: its Receive returns an error. A worker uses one on the NIC for its
// translated packets.
func OpenSender(o Options) (*Port, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p, _, err := openSender(o)
	return p, err
}

func openSender(o Options) (*Port, *net.Interface, error) {
	ifi, err := net.InterfaceByName(o.Interface)
	if err != nil {
		return nil, nil, fmt.Errorf("afpacket: %s: %w", o.Interface, err)
	}
	tx, err := newSender(ifi, o)
	if err != nil {
		return nil, nil, fmt.Errorf("afpacket: %s: %w", o.Interface, err)
	}
	p := &Port{name: o.Interface, engine: o.Engine, bursts: tx.burst != nil, noBursts: tx.lacks, tx: tx}
	return p, ifi, nil
}

// openReceiver adds the receiving half to a sender. With Auto it falls back from the ring to recvmmsg.
func (p *Port) openReceiver(ifi *net.Interface, o Options) error {
	engine := o.Engine
	if engine == Auto {
		engine = Ring
	}
	rx, err := newReceiver(engine, ifi, o)
	if err != nil && o.Engine == Auto {
		p.fallback, engine = err, Mmsg
		rx, err = newReceiver(engine, ifi, o)
	}
	if err != nil {
		return err
	}
	p.engine, p.busy, p.rx = engine, o.BusyPoll, rx
	if o.BusyPoll == AdaptivePoll {
		p.adaptive = &busyPoller{processors: cmp.Or(o.Processors, new(Processors))}
	}
	return nil
}

func newReceiver(e Engine, ifi *net.Interface, o Options) (receiver, error) {
	switch e {
	case Ring:
		return newRing(ifi, o)
	case Mmsg:
		return newMmsg(ifi, o)
	default:
		return newSimple(ifi, o)
	}
}
