package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"nat64d/afpacket"
	"nat64d/config"
	"nat64d/control"
	"nat64d/fragment"
	"nat64d/gateway"
	"nat64d/icmp"
	"nat64d/nexthop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/xlat"
)

// ioThreads is how many threads may wait in the kernel at once: GOMAXPROCS must exceed it, or a woken thread waits for
// the scheduler to notice (measured: p99 of the round trip doubles).
const ioThreads = 2

// checkGuardEvery is how often the guard is looked at beside the link events, in case somebody flushed the ruleset.
const checkGuardEvery = 5 * time.Second

// parts are what a running daemon is made of.
type parts struct {
	conf    *config.Config
	log     *slog.Logger
	started time.Time
	routes  *nexthop.Table
	pool    *pool4.Pool
	gateway *gateway.Gateway
	engine  afpacket.Engine // the one asked for
	engines [2]atomic.Int32 // by side: the one in use
	guard   *guarded
	links   chan struct{} // something happened to an interface
}

// serve runs the gateway until ctx ends and leaves nothing behind.
func serve(ctx context.Context, c *config.Config) (err error) {
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), ioThreads+2))
	p := &parts{conf: c, log: newLogger(c.Log, os.Stderr), started: time.Now(), links: make(chan struct{}, 1)}
	l, err := control.Listen(c.Socket, c.Group)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := p.build(); err != nil {
		return err
	}
	defer p.gateway.Close()
	if err := p.guard.own(); err != nil {
		return err
	}
	if err := p.guard.apply(); err != nil {
		return errors.Join(err, p.guard.remove())
	}
	defer func() { err = errors.Join(err, p.guard.remove()) }()
	return p.run(ctx, l)
}

// build makes the parts, in the order in which they need each other. Nothing outside the process is changed yet.
func (p *parts) build() (err error) {
	c := p.conf
	mode, err := nexthop.ParseAnswerARP(string(c.Host.AnswerARP))
	if err != nil {
		return err
	}
	p.routes, err = nexthop.New(nexthop.Interfaces{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name}, mode, p.log)
	if err != nil {
		return err
	}
	if err := p.checkPool6(); err != nil {
		return err
	}
	if p.engine, err = afpacket.ParseEngine(string(c.Interfaces.Engine)); err != nil {
		return err
	}
	var key [16]byte
	_, _ = rand.Read(key[:]) // it never fails
	p.pool = pool4.New(key)
	if _, _, err := p.pool.Add(c.Pool4); err != nil {
		return err
	}
	p.guard = newGuarded(p)
	if err := p.guard.refuse(c.Pool4, c.Host.Force); err != nil {
		return err
	}
	_, _ = rand.Read(key[:])
	p.gateway = gateway.New(gateway.Options{
		Config: gatewayConfig(c), Routes: p.routes, Pool4: p.pool, Max: c.Sessions.Max, Key: key, Open: p.open, Log: p.log,
		Hops: func() gateway.Hops { return nexthop.NewCache(p.routes) },
	})
	return p.gateway.Open()
}

// checkPool6 refuses a prefix that contains an address of the host: its own traffic would be translated away.
func (p *parts) checkPool6() error {
	for _, prefix := range p.conf.Pool6 {
		for _, a := range p.routes.HostAddresses() {
			if prefix.Prefix().Contains(a) {
				return fmt.Errorf("pool6 %v contains %v, an address of this machine: choose a prefix that no host uses", prefix, a)
			}
		}
	}
	return nil
}

// open opens a port for the gateway.
func (p *parts) open(s gateway.Side, send bool) (gateway.Port, error) {
	o := afpacket.Options{Interface: p.conf.Interfaces.V6.Name, Family: afpacket.IPv6, Engine: p.engine}
	if s == gateway.V4 {
		o.Interface, o.Family = p.conf.Interfaces.V4.Name, afpacket.IPv4
	}
	if send {
		return afpacket.OpenSender(o)
	}
	port, err := afpacket.Open(o)
	if err != nil {
		return nil, err
	}
	p.engines[s].Store(int32(port.Engine()))
	return port, nil
}

// run starts what lives as long as the daemon.
func (p *parts) run(ctx context.Context, l net.Listener) error {
	p.routes.OnLink(func() {
		select {
		case p.links <- struct{}{}:
		default: // one is waiting to be seen already
		}
	})
	p.routes.SetProxied(p.proxied())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.routes.Run(ctx) })
	group.Go(func() error { return p.gateway.Run(ctx) })
	group.Go(func() error { return control.Serve(ctx, l, control.NewServer(&backend{parts: p}, p.log)) })
	group.Go(func() error { return p.watch(ctx) })
	p.announce()
	err := group.Wait()
	p.log.Info("stopped")
	return err
}

// announce says that packets are carried from now on, and what an operator should know about it.
func (p *parts) announce() {
	st := (&backend{parts: p}).Status()
	for _, w := range st.Warnings {
		p.log.Warn(w)
	}
	for _, w := range st.NotReady {
		p.log.Warn("not ready: " + w)
	}
	message := "ready"
	if !st.Ready {
		message = "started, but not ready"
	}
	p.log.Info(message, "v6", p.conf.Interfaces.V6.Name, "v4", p.conf.Interfaces.V4.Name, "pool6", p.conf.Pool6,
		"pool4_ranges", len(p.pool.Entries()), "socket", p.conf.Socket)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady) // without systemd there is nobody to tell
}

// watch keeps the guard in place: some kernels drop a chain with its NIC, and people flush rulesets.
func (p *parts) watch(ctx context.Context) error {
	tick := time.NewTicker(checkGuardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.links:
		case <-tick.C:
		}
		if err := p.guard.check(); err != nil {
			p.log.Error("the host may answer for pool4 and pool6: the guard is not in place", "error", err)
		}
	}
}

// proxied returns the addresses that ARP may have to be answered for.
func (p *parts) proxied() []netip.Addr {
	var addrs []netip.Addr
	for _, u := range p.pool.Entries() {
		if len(addrs) == 0 || addrs[len(addrs)-1] != u.Addr {
			addrs = append(addrs, u.Addr)
		}
	}
	return addrs
}

// gatewayConfig translates the file's view into the data path's.
func gatewayConfig(c *config.Config) gateway.Config {
	t := c.Sessions.Timeouts
	g := gateway.Config{
		Pool6:     c.Pool6,
		WellKnown: map[config.PrivateV4]gateway.Policy{config.PrivateV4Allow: gateway.Allow, config.PrivateV4Drop: gateway.Refuse}[privateV4(c)],
		Xlat: xlat.Config{
			TOS: xlat.CopyTOS, TrafficClass: xlat.CopyTOS,
			ZeroUDPDrop: c.Translation.ZeroUDPChecksum == config.ZeroUDPChecksumDrop,
		},
		LowestIPv6MTU:   c.Translation.LowestIPv6MTU,
		Plateaus:        icmp.Plateaus,
		Fragments:       fragment.Limits{Time: t.Fragment},
		ErrorsPerSecond: c.ICMP.Rate,
		Session: session.Config{AllowInboundTCP: c.Filtering.AllowInboundTCP, Timeouts: session.Timeouts{
			UDP: t.UDP, ICMP: t.ICMP, TCPEstablished: t.TCPEstablished, TCPTransitory: t.TCPTransitory, TCPSyn: t.TCPSyn,
		}},
	}
	if !c.Translation.CopyTOS {
		g.Xlat.TOS = int(c.Translation.TOS)
	}
	if c.ICMP.SourceV6.IsValid() {
		g.Source6 = c.ICMP.SourceV6.As16()
	}
	if c.ICMP.SourceV4.IsValid() {
		g.Source4 = c.ICMP.SourceV4.As4()
	}
	return g
}

// protocols in the order in which they are shown.
var protocols = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}
