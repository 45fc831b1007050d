package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// The kinds of links between the gateway and the ends.
const (
	linkVeth = "veth"
	linkTAP  = "tap" // TAP devices: NICs like those of a virtual machine
)

// sinks count and drop the packets of floods on the TAP links, before the ends receive them: a program that moves
// frames between two TAP devices would otherwise take more time for each packet than the gateway.
type sinks struct {
	up, down atomic.Int64 // bytes of UDP data towards the server, and towards the client
	carry    atomic.Bool  // whether the server receives the packets, too
}

// attachSinks attaches the sinks to the TAP links, whose thread shares the processor of the ends.
func (b *bed) attachSinks() error {
	up, down := b.lab.Cable(b.lab.NIC4), b.lab.Cable(b.lab.NIC6)
	up.SetFilter(func(fromGateway bool, frame []byte) bool {
		n := 0
		if fromGateway {
			n = floodData(frame[lab.VnetHeader:], func(p ports) bool { return p.destination >= sinkPort && p.destination < sinkPort+sinkPorts })
		}
		b.sinks.up.Add(int64(n))
		return n == 0 || b.sinks.carry.Load()
	})
	down.SetFilter(func(fromGateway bool, frame []byte) bool {
		n := 0
		if fromGateway {
			n = floodData(frame[lab.VnetHeader:], func(p ports) bool { return p.source == sinkPort })
		}
		b.sinks.down.Add(int64(n))
		return n == 0
	})
	return b.lab.Switch.Pin(b.client.cpu)
}

// floodData returns the number of bytes of UDP data in a frame, or 0 if it is not a UDP packet whose ports match. A
// super-packet counts without the headers of its segments.
func floodData(b []byte, match func(ports) bool) int {
	if len(b) < etherLength+ip6Length+udpLength {
		return 0 // the data of a flood is larger than the difference to IPv4
	}
	udp, protocol := b[etherLength+ip4Length:], b[etherLength+9]
	if binary.BigEndian.Uint16(b[12:]) == unix.ETH_P_IPV6 {
		udp, protocol = b[etherLength+ip6Length:], b[etherLength+6]
	}
	if protocol != protocolUDP || !match(ports{binary.BigEndian.Uint16(udp), binary.BigEndian.Uint16(udp[2:])}) {
		return 0
	}
	return len(udp) - udpLength
}

// flood sends packets from the client.
func (b *bed) flood(ctx context.Context, o floodOrder) (floodResult, error) {
	if b.link == linkTAP {
		return b.drive(ctx, b.client, b.lab.NIC6, o, flowPorts)
	}
	return call[floodResult](ctx, b.client, toolFlood, o)
}

// reflect waits for flows at the server and floods them in the other direction.
func (b *bed) reflect(ctx context.Context, o reflectOrder) (floodResult, error) {
	if b.link == linkVeth {
		return call[floodResult](ctx, b.server, toolReflect, o)
	}
	var flows []ports
	var back floodOrder
	err := b.server.Do(func() (err error) {
		flows, back, err = learn(o)
		return err
	})
	if err != nil {
		return floodResult{}, err
	}
	return b.drive(ctx, b.server, b.lab.NIC4, back, func(i int) ports { return flows[i] })
}

// drive makes the thread that carries frames send a flood from an end, too: it writes the frames to an interface of
// the gateway. So neither the end's stack nor a change between two threads limits the rate.
func (b *bed) drive(ctx context.Context, from place, nic string, o floodOrder, at func(i int) ports) (floodResult, error) {
	w := &tapWire{cable: b.lab.Cable(nic)}
	err := from.Do(func() error {
		i, err := net.InterfaceByName(o.Interface)
		if err == nil {
			w.mac = i.HardwareAddr
		}
		return err
	})
	if err != nil {
		return floodResult{}, err
	}
	f := newFlooder(w, o, at)
	err = b.lab.Switch.Drive(func() bool { return ctx.Err() == nil && f.step() })
	return f.floodResult, errors.Join(err, context.Cause(ctx))
}

// tapWire writes frames to a TAP device of the gateway. A frame that finds its ring full is lost, as in a NIC.
type tapWire struct {
	cable *lab.Cable
	mac   net.HardwareAddr
}

func (w *tapWire) address() net.HardwareAddr { return w.mac }

func (w *tapWire) send(frames []frame) int {
	for i := range frames {
		if w.cable.WriteHub(frames[i].whole) != nil {
			return i
		}
	}
	return len(frames)
}
