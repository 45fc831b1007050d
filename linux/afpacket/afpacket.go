//go:build linux

// Package afpacket carries IP packets between the Ethernet NICs of Linux (RFC 894, RFC 2464) and byte slices, in
// batches, over AF_PACKET sockets (packet(7)). Super-packets of up to 64 KiB and half-done checksums pass as they are,
// described by a packet.Offload: a NIC's or a veth's segmentation offload is what makes a gateway in user space fast.
package afpacket

import (
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Family says which packets a port receives. The zero value is neither and is refused.
type Family uint8

// The families.
const (
	_ Family = iota
	IPv6
	IPv4
)

// String returns ipv6 or ipv4.
func (f Family) String() string {
	switch f {
	case IPv6:
		return "ipv6"
	case IPv4:
		return "ipv4"
	}
	return "none"
}

// etherType returns the number that stands for the family in an Ethernet header.
func (f Family) etherType() uint32 {
	if f == IPv4 {
		return unix.ETH_P_IP
	}
	return unix.ETH_P_IPV6
}

// Engine is a way of getting packets from the kernel. All of them deliver the same frames; they differ in what a
// packet costs.
type Engine uint8

// The engines, the fastest first. Costs are processor time a small packet, measured on veth.
const (
	Auto   Engine = iota // Ring, or Mmsg where the kernel has no ring for us, or no filter that is safe for one
	Ring                 // a ring in shared memory (TPACKET_V2), no system call while there is work: 1.6 µs
	Mmsg                 // recvmmsg, a batch of packets for one system call: 2.3 µs
	Simple               // a system call for each packet, on package mdlayher/packet: 4.4 µs
)

var engineNames = [...]string{Auto: "auto", Ring: "ring", Mmsg: "mmsg", Simple: "simple"}

// String returns the engine's name as ParseEngine reads it.
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

// batch is how many packets one Receive returns at most, and how many a system call sends but for Simple.
const batch = 64

// Options say how to open a port. The zero value of everything but Interface and Family is a good choice.
type Options struct {
	Interface string // name of the NIC, which must be an Ethernet one
	Family    Family // which packets are received; a sender has no need of it
	Engine    Engine // how they are received
	// BusyPoll is how long Receive looks for packets without sleeping, before it sleeps. It takes the waking up out of a
	// round trip and a processor away from everything else. 0: not at all.
	BusyPoll time.Duration
	// Group is the number, in this network namespace, of the ports that share the packets of a NIC and family. The
	// packets of a flow, in one direction, always go to the same port. 0: this port receives all. Simple knows no
	// groups.
	Group uint16
	// NoBursts has each packet sent by itself, even where the kernel would take several at once.
	NoBursts bool
}

func (o Options) check() error {
	switch {
	case o.Engine > Simple:
		return fmt.Errorf("afpacket: engine %d: must be Auto, Ring, Mmsg or Simple", o.Engine)
	case o.Group != 0 && o.Engine == Simple:
		return errors.New("afpacket: the simple engine has one port for all packets: take ring or mmsg for several workers")
	}
	return nil
}

// Open opens a port that receives the packets of one family from a NIC and sends packets of either. It needs
// CAP_NET_RAW and CAP_NET_ADMIN; Ring also CAP_BPF and CAP_PERFMON. A NIC whose link is down can be opened: its packets come once the link is up.
func Open(o Options) (*Port, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Family != IPv6 && o.Family != IPv4 {
		return nil, errors.New("afpacket: family: must be IPv6 or IPv4")
	}
	p, ifi, err := openSender(o)
	if err != nil {
		return nil, err
	}
	if err := p.openReceiver(ifi, o); err != nil {
		_ = p.Close() // the first error is the one to tell
		return nil, fmt.Errorf("afpacket: %s: %w", o.Interface, err)
	}
	return p, nil
}

// OpenSender opens a port that sends and does not receive: its Receive returns an error. A gateway's worker has one
// on the NIC that its translated packets leave by.
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

// openReceiver adds the receiving half to a sender. With Auto a ring that cannot be had is no failure.
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
