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

	moves atomic.Uint32 // times that the v4 interface has become another one

	mu    sync.Mutex
	early [2][]opening // of each side; guarded by mu
}

// opening returns a port that is being opened, when it is.
type opening func() (gateway.Port, error)

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

// openEarly begins to open the ports that receive. From then on packets wait in them until the data path runs, instead of being
// lost. The guard need not be in place: a killed process has left its own, and otherwise there is no connection yet that the host
// could reset.
func (p *ports) openEarly() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range packet.Family(len(p.early)) {
		for range workers(p.conf()) {
			o := opening(sync.OnceValues(func() (gateway.Port, error) { return p.openReceiver(s) }))
			p.early[s] = append(p.early[s], o)
			go func() { _, _ = o() }()
		}
	}
}

// takeEarly returns a port of openEarly that was not taken yet, or nil.
func (p *ports) takeEarly(s packet.Family) (o opening) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.early[s]); n > 0 {
		o, p.early[s] = p.early[s][n-1], p.early[s][:n-1]
	}
	return o
}

// closeEarly closes the ports of openEarly that were not taken.
func (p *ports) closeEarly() {
	for s := range packet.Family(len(p.early)) {
		for o := p.takeEarly(s); o != nil; o = p.takeEarly(s) {
			if port, err := o(); err == nil {
				_ = port.Close() // an error changes nothing: the start has failed
			}
		}
	}
}

// open opens a port that receives, or one that sends. The guard covers the interface first.
func (p *ports) open(s packet.Family, send bool) (gateway.Port, error) {
	at := p.moves.Load()
	port, err := p.openOnce(s, send)
	if err != nil || s != packet.V4 || !p.conf().V4.Default {
		return port, err
	}
	return &movable{Port: port, moves: &p.moves, at: at}, nil
}

func (p *ports) openOnce(s packet.Family, send bool) (gateway.Port, error) {
	if !send {
		if o := p.takeEarly(s); o != nil {
			return o()
		}
	}
	p.guard.coverNICs()
	if send {
		return p.openSender(s)
	}
	return p.openReceiver(s)
}

// options returns the options for a port of a side.
func (p *ports) options(s packet.Family) (o afpacket.Options, err error) {
	c := p.conf()
	o = afpacket.Options{
		Interface: c.V6.NIC(), Family: packet.V6, Engine: p.engine, NoBursts: !c.Bursts, BusyPoll: c.BusyPoll,
		Processors: &p.processors, Screens: &p.screens,
	}
	if c.BusyPoll == config.BusyPollAuto {
		o.BusyPoll = afpacket.AdaptivePoll
	}
	if s == packet.V4 {
		o.Interface, o.Family = c.V4.NIC(), packet.V4
	}
	if workers(c) > 1 {
		o.Group = p.group + uint16(s)
	}
	if _, err := net.InterfaceByName(o.Interface); err != nil {
		return o, noNIC(o.Interface)
	}
	return o, nil
}

func (p *ports) openReceiver(s packet.Family) (gateway.Port, error) {
	o, err := p.options(s)
	if err != nil {
		return nil, err
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

func (p *ports) openSender(s packet.Family) (gateway.Port, error) {
	o, err := p.options(s)
	if err != nil {
		return nil, err
	}
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
