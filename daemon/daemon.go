//go:build linux

// Package daemon builds the parts of nat64d from a configuration, runs them as long as it is asked to, and changes what
// differs when the configuration does. It handles no signals and no command line, so that a test starts a gateway as a
// program does.
package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/linux/nexthop"
	"nat64d/linux/nic"
	"nat64d/ops/control"
	"nat64d/packet"
	"nat64d/pool4"
)

// ioThreads is how many threads of one worker a side may wait in the kernel at once: GOMAXPROCS must exceed them, or a woken
// thread waits for the scheduler to notice (measured: p99 of the round trip doubles).
const ioThreads = 2

// workers returns how many threads carry the packets of each side. By default that is one for four of the processors
// that the daemon may use: the kernel's receiving and sending, and the other side, want as much each.
func workers(c *config.Interfaces) int {
	const most = 8
	switch {
	case c.Workers > 0:
		return c.Workers
	case c.Engine == afpacket.Simple.String(): // it knows no groups
		return 1
	}
	return min(max(runtime.NumCPU()/4, 1), most)
}

// checkGuardEvery is how often the guard is looked at beside link events and notifications of nftables.
const checkGuardEvery = 5 * time.Second

// Options are what a Daemon or a DNS64 is made from.
type Options struct {
	File      string           // the configuration; empty: Overrides are all of it
	Overrides config.Overrides // what the command line sets
	Log       *LogQueue        // takes the log; whoever made it closes it
	Version   control.Version  // is shown by nat64ctl
}

// load reads the configuration.
func (o *Options) load() (*config.Config, error) { return config.Load(o.File, o.Overrides) }

// Daemon is a NAT64 gateway with all that surrounds it. Reload may be called by any goroutine, Run once.
type Daemon struct {
	options Options

	conf    atomic.Pointer[config.Config]
	log     *logs
	started time.Time
	routes  *nexthop.Table
	pool    *pool4.Pool
	gateway *gateway.Gateway
	engine  afpacket.Engine // the one asked for
	engines [2]atomic.Int32 // by side: the one in use
	bursts  [2]atomic.Bool  // by side: packets leave in bursts
	singly  [2]sync.Once    // by side: it has been told that they do not,
	slowly  [2]sync.Once    // and that the engine is not the best
	guard   *guarded
	names   *dns64Service
	nics    *nic.Manager  // belongs to Run, and to watch while that runs
	group   uint16        // of the ports of the IPv6 side; the next number is that of the IPv4 side
	links   chan struct{} // something happened to an interface
	moved   chan struct{} // the kernel's routes or addresses are not what near says
	reloads chan struct{} // the configuration is to be read again

	admin  sync.Mutex // held by whoever changes pool4, static rows or the configuration
	static rows
	near   surroundings

	overlaps overlaps
}

// New reads the configuration. It changes nothing outside the process.
func New(o Options) (*Daemon, error) {
	p := &Daemon{
		options: o, started: time.Now(), links: make(chan struct{}, 1), moved: make(chan struct{}, 1), reloads: make(chan struct{}, 1),
		static: rows{}, overlaps: overlaps{look: make(chan struct{}, 1)},
	}
	c, err := o.load()
	if err != nil {
		return nil, withHint(err)
	}
	p.conf.Store(c)
	p.log = newLogs(c.Log, o.Log)
	return p, nil
}

// Run runs the gateway until ctx ends and leaves nothing behind. Its error says what would help.
func (p *Daemon) Run(ctx context.Context) error { return withHint(p.serve(ctx)) }

// Reload has the daemon read its configuration again; the log says what came of it. Before Run serves, it is done as soon as
// that does.
func (p *Daemon) Reload() { notify(p.reloads)() }

func (p *Daemon) serve(ctx context.Context) (err error) {
	c := p.config()
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), ioThreads*workers(&c.Interfaces)+2))
	l, err := control.Listen(c.Socket, c.Group)
	if err != nil {
		return err
	}
	defer l.Close()
	held, err := p.claimNICs()
	if err != nil {
		return err
	}
	defer held.release()
	if err := p.build(); err != nil {
		return err
	}
	defer p.names.close()
	if err := p.guard.own(); err != nil {
		return err
	}
	// The guard comes before the first packet is taken and goes after the last one: in between the host would reset what it sees.
	defer func() { err = errors.Join(err, p.guard.remove()) }()
	if err := p.guard.settle(); err != nil {
		return err
	}
	defer p.gateway.Close()
	if err := p.gateway.Open(); err != nil {
		return err
	}
	if err := p.manageNICs(); err != nil {
		return err
	}
	defer p.putBackNICs()
	return p.run(ctx, l)
}

// build makes the parts, in the order in which they need each other. Nothing outside the process is changed yet.
func (p *Daemon) build() (err error) {
	c := p.config()
	mode, err := nexthop.ParseAnswerARP(c.Host.AnswerARP)
	if err != nil {
		return err
	}
	p.routes, err = nexthop.New(nexthop.Interfaces{V6: c.Interfaces.V6.Name, V4: c.Interfaces.V4.Name}, mode, p.log.Logger)
	if err != nil {
		return err
	}
	if err := errors.Join(p.checkPool6(c), checkZones(nil, c)); err != nil {
		return err
	}
	if p.engine, err = afpacket.ParseEngine(c.Interfaces.Engine); err != nil {
		return err
	}
	var key [16]byte
	_, _ = rand.Read(key[:])                             // it never fails
	p.group = binary.BigEndian.Uint16(key[:])&0xfffe | 2 // even, and not 0: another process is unlikely to have it
	p.pool = pool4.New(key)
	if _, _, err := p.pool.Add(c.Pool4); err != nil {
		return err
	}
	if c.Sessions.HoldAfterStart {
		p.pool.HoldDownAll()
	}
	p.near = p.surroundings(c)
	p.guard = newGuarded(p)
	if err := p.guard.refuse(c.Pool4, c.Host.Force); err != nil {
		return err
	}
	_, _ = rand.Read(key[:])
	options := gateway.Options{
		RingAdvice: ringAdvice[c.Interfaces.Offloads],
		Config:     p.gatewayConfig(c), Routes: p.routes, Pool4: p.pool, Max: c.Sessions.Max, Workers: workers(&c.Interfaces), Key: key, Open: p.open, Settle: p.settle, Log: p.log.Logger,
		Hops: func() gateway.Hops { return nexthop.NewCache(p.routes) },
	}
	if err := p.affordable(c, options); err != nil {
		return err
	}
	if err := p.bind(expand(c.Bindings), c.Host.Force); err != nil {
		return err
	}
	p.names, _ = newDNS64Service(p.basis(), p.options.Version, p.log.Logger) // what it cannot listen on is tried again, and shown
	return nil
}

// checkPool6 refuses a prefix that contains an address of the host: its own traffic would be translated away.
func (p *Daemon) checkPool6(c *config.Config) error {
	for _, prefix := range c.Pool6 {
		for _, a := range p.routes.HostAddresses() {
			if prefix.Prefix().Contains(a) {
				return fmt.Errorf("pool6 %v contains %v, an address of this machine: choose a prefix that no host uses", prefix, a)
			}
		}
	}
	return nil
}

// noNIC is the name of an interface that does not exist at the moment.
type noNIC string

func (n noNIC) Error() string { return fmt.Sprintf("interface %s does not exist", string(n)) }

// Is makes it fs.ErrNotExist, which the gateway takes for a reason to wait.
func (n noNIC) Is(target error) bool { return target == fs.ErrNotExist }

// open opens a port for the gateway.
func (p *Daemon) open(s gateway.Side, send bool) (gateway.Port, error) {
	c := &p.config().Interfaces
	o := afpacket.Options{Interface: c.V6.Name, Family: afpacket.IPv6, Engine: p.engine, BusyPoll: c.BusyPoll, NoBursts: !c.Bursts}
	if s == gateway.V4 {
		o.Interface, o.Family = c.V4.Name, afpacket.IPv4
	}
	if _, err := net.InterfaceByName(o.Interface); err != nil {
		return nil, noNIC(o.Interface)
	}
	p.guard.precede()
	if workers(c) > 1 {
		o.Group = p.group + uint16(s)
	}
	if send {
		port, err := afpacket.OpenSender(o)
		if err != nil {
			return nil, err
		}
		p.bursts[s].Store(port.Bursts())
		if err := port.NoBursts(); err != nil {
			p.singly[s].Do(func() {
				p.log.Warn("packets leave one by one, which is slower: the kernel takes no bursts (CAP_BPF, Linux 5.13)", "side", s, "reason", err)
			})
		}
		return port, nil
	}
	port, err := afpacket.Open(o)
	if err != nil {
		return nil, err
	}
	p.engines[s].Store(int32(port.Engine()))
	if err := port.Fallback(); err != nil {
		p.slowly[s].Do(func() {
			p.log.Warn("a slower engine is used: the ring cannot be", "side", s, "engine", port.Engine(), "reason", err)
		})
	}
	return port, nil
}

// settle prepares the thread of a worker: its short sleeps are exact, and it runs where it should.
func (p *Daemon) settle(s gateway.Side, i int) {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // if it fails, packets gather 50 µs longer
	pin := p.config().Interfaces.Pin
	if len(pin) == 0 {
		return
	}
	cpu := pin[(i*2+int(s))%len(pin)]
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		p.log.Warn("a worker cannot be bound to its processor", "side", s, "processor", cpu, "error", err)
	}
}

// run starts what lives as long as the daemon.
func (p *Daemon) run(ctx context.Context, l net.Listener) error {
	p.routes.OnLink(notify(p.links))
	p.routes.OnSurroundings(notify(p.moved))
	p.routes.SetProxied(p.proxied())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.routes.Run(ctx) })
	group.Go(func() error { return p.gateway.Run(ctx) })
	group.Go(func() error {
		return control.Serve(ctx, l, control.NewServer(&backend{Daemon: p}, p.names, p.log.Logger))
	})
	group.Go(func() error { return p.watch(ctx) })
	group.Go(func() error { return p.watchSockets(ctx) })
	group.Go(func() error { return p.guard.watch(ctx) })
	group.Go(func() error { return p.names.run(ctx) })
	group.Go(func() error { return p.reloadOnRequest(ctx) })
	_ = p.guard.readNAT() // announce tells them
	group.Go(func() error { return p.announce(ctx) })
	debug.FreeOSMemory() // what building the parts has left behind
	err := group.Wait()
	_, _ = systemd.SdNotify(false, systemd.SdNotifyStopping)
	p.log.Info("stopped")
	return err
}

// notify returns what tells whoever receives from c that something has changed.
func notify(c chan<- struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default: // one is waiting to be seen already
		}
	}
}

// watch keeps the guard in place: some kernels drop a chain with its NIC, and people flush rulesets. It also sets up NICs
// that come, and has the gateway follow the kernel's routes and addresses.
func (p *Daemon) watch(ctx context.Context) error {
	tick, nat := time.NewTicker(checkGuardEvery), time.NewTicker(time.Second)
	defer tick.Stop()
	defer nat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.links:
		case <-p.moved:
			p.move()
		case <-tick.C:
		case <-nat.C:
			for _, w := range p.guard.readNAT() {
				p.log.Warn(w)
			}
			continue
		}
		p.setUpNICs()
		p.guard.check()
	}
}

// proxied returns the addresses that ARP may have to be answered for.
func (p *Daemon) proxied() []netip.Addr {
	var addrs []netip.Addr
	for _, e := range p.taken() {
		if len(addrs) == 0 || addrs[len(addrs)-1] != e.Addr {
			addrs = append(addrs, e.Addr)
		}
	}
	return addrs
}

// reloadOnRequest reads the configuration again whenever Reload was called.
func (p *Daemon) reloadOnRequest(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.reloads:
		}
		if _, err := p.reload(); err != nil {
			p.log.Error(err.Error())
		}
	}
}

// protocols in the order in which they are shown.
var protocols = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}
