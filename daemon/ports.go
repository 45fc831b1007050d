//go:build linux

package daemon

import (
	"fmt"
	"io/fs"
	"net"
	"sync"
	"sync/atomic"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/packet"
)

// ports opens packet sockets for the gateway, also those of an interface that comes late or comes back. Its methods may be
// called by any goroutine.
type ports struct {
	log    *logs
	conf   func() *config.Interfaces
	guard  *hostGuard
	engine afpacket.Engine // the configured engine
	group  uint16          // fanout group of the IPv6 side; the next number is that of the IPv4 side
	sides  [2]portSide

	processors afpacket.Processors // shared by all ports
	screens    afpacket.Screens    // shared by all ports
}

// portSide is what is known of the ports of a side.
type portSide struct {
	engine atomic.Int32 // the one in use, an afpacket.Engine
	bursts atomic.Bool  // packets leave in bursts

	warnBursts, warnEngine sync.Once
}

// noNIC is the error for an interface that does not exist.
type noNIC string

func (n noNIC) Error() string { return fmt.Sprintf("interface %s does not exist", string(n)) }

// Is makes it fs.ErrNotExist, for which the gateway waits.
func (n noNIC) Is(target error) bool { return target == fs.ErrNotExist }

// open opens a port that receives, or one that sends. The guard covers the interface first.
func (p *ports) open(s packet.Family, send bool) (gateway.Port, error) {
	c := p.conf()
	o := afpacket.Options{Interface: c.V6.Name, Family: packet.V6, Engine: p.engine, NoBursts: !c.Bursts}
	o.BusyPoll, o.Processors, o.Screens = c.BusyPoll, &p.processors, &p.screens
	if c.BusyPoll == config.BusyPollAuto {
		o.BusyPoll = afpacket.AdaptivePoll
	}
	if s == packet.V4 {
		o.Interface, o.Family = c.V4.Name, packet.V4
	}
	if _, err := net.InterfaceByName(o.Interface); err != nil {
		return nil, noNIC(o.Interface)
	}
	p.guard.coverNICs()
	if workers(c) > 1 {
		o.Group = p.group + uint16(s)
	}
	if send {
		return p.openSender(s, o)
	}
	port, err := afpacket.Open(o)
	if err != nil {
		return nil, err
	}
	side := &p.sides[s]
	side.engine.Store(int32(port.Engine()))
	if err := port.Fallback(); err != nil {
		side.warnEngine.Do(func() {
			p.log.Warn("PACKET_RX_RING unavailable, falling back to a slower engine", "side", s, "engine", port.Engine(), "reason", err)
		})
	}
	return port, nil
}

// loadScreens loads the filters of rings that are opened later.
func (p *ports) loadScreens() {
	if p.engine != afpacket.Auto && p.engine != afpacket.Ring {
		return
	}
	for f := range packet.Families {
		_ = p.screens.Load(f, workers(p.conf())) // if it fails, so does opening a ring, which reports it
	}
}

func (p *ports) openSender(s packet.Family, o afpacket.Options) (gateway.Port, error) {
	port, err := afpacket.OpenSender(o)
	if err != nil {
		return nil, err
	}
	side := &p.sides[s]
	side.bursts.Store(port.Bursts())
	if err := port.NoBursts(); err != nil {
		side.warnBursts.Do(func() {
			p.log.Warn("packets leave one by one, which is slower: bursts unavailable (they need CAP_BPF and Linux 5.13)", "side", s, "reason", err)
		})
	}
	return port, nil
}
