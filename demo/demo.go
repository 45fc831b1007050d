//go:build linux

// Package demo demonstrates a NAT64 gateway between an IPv6-only and an IPv4-only host, or on a node with pods, in
// network namespaces that it creates and removes.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// The parameters of the demonstration; the pool is the gateway's own address, as on a machine with a single address.
const (
	demoPool4    = lab.Gateway4 + ":7000-8000"
	demoDownload = 256 << 20
	demoHTTP     = ":80"
	demoFlood    = ":5201"
	demoTarget   = "[" + lab.Server4As6 + "]"
	demoPings    = 5
	demoListing  = 8 // number of rows of each table
	repaint      = 250 * time.Millisecond
)

// Options are the options of a demonstration.
type Options struct {
	Program string        // the nat64d to demonstrate
	Length  time.Duration // of each measurement of throughput
	Hold    bool          // keep everything running until the context is done
	Node    bool          // demonstrate attach: host on a node with pods
}

// Run demonstrates a gateway on out, and cleans up. It needs root.
func Run(ctx context.Context, o Options, out *os.File) error {
	d := demo{options: o}
	text := gatewayScene
	if o.Node {
		text = nodeScene
	}
	return d.run(ctx, newScreen(out, text))
}

// show is what distinguishes one kind of demonstration from another.
type show struct {
	steps    []demoStep
	config   string    // of nat64d
	flags    []string  // of nat64d
	nics     [2]string // of nat64d, for the picture
	from     *lab.Namespace
	resolver string       // of from
	check    func() error // after nat64d has stopped, or nil
}

// demo is one demonstration. Its steps run sequentially.
type demo struct {
	options Options
	show    show
	dir     string // for files
	memory  bool   // dir is on a tmpfs

	screen  *screen
	lab     *lab.Lab
	flood   *lab.Flood
	gateway atomic.Pointer[gatewayProcess] // nil until it is started
	closers []func() error                 // called in reverse order
}

type demoStep struct {
	title string
	run   func(context.Context) (result string, err error)
}

// run executes every step and always cleans up. An interruption is an error only if steps remain.
func (d *demo) run(ctx context.Context, s *screen) (err error) {
	d.screen = s
	defer func() {
		s.end()
		for i := len(d.closers) - 1; i >= 0; i-- {
			err = errors.Join(err, d.closers[i]())
		}
		if err == nil {
			s.say("", "All of it is removed again.")
		}
	}()
	if err := d.prepare(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	s.start()
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() { defer close(watched); d.watch(watching) }()
	defer func() { stop(); <-watched }()

	for _, step := range d.show.steps {
		s.begin(step.title)
		result, err := step.run(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("demo: interrupted at %q", step.title)
		}
		if err != nil {
			return fmt.Errorf("demo: step %q failed: %w%s", step.title, err, d.gateway.Load().lastWords())
		}
		s.done(result)
	}
	if err := d.present(ctx); err != nil || d.show.check == nil {
		return err
	}
	return d.finish()
}

// prepare makes the network, a directory and the servers.
func (d *demo) prepare() (err error) {
	if d.dir, d.memory, err = newDir(); err != nil {
		return err
	}
	d.closers = append(d.closers, func() error { return os.RemoveAll(d.dir) })
	if d.lab, err = lab.New(lab.Options{}); err != nil {
		return err
	}
	d.closers = append(d.closers, d.lab.Close)
	if err := d.serve(); err != nil {
		return err
	}
	d.show = d.onGateway()
	if d.options.Node {
		d.show, err = d.onNode()
	}
	return err
}

// newDir creates a directory, and reports whether it is on a tmpfs, where state.dir has to be.
func newDir() (dir string, memory bool, err error) {
	var s unix.Statfs_t
	for _, root := range []string{"/dev/shm", "/run"} {
		if unix.Statfs(root, &s) != nil || s.Type != unix.TMPFS_MAGIC {
			continue
		}
		if dir, err = os.MkdirTemp(root, "nat64d-"); err == nil {
			return dir, true, nil
		}
	}
	dir, err = os.MkdirTemp("", "nat64d-")
	return dir, false, err
}

// onGateway returns the demonstration of a gateway between two networks.
func (d *demo) onGateway() show {
	const plain = "kernel IPv6 forwarding, to compare: TCP "
	client := d.lab.Client
	return show{
		steps: []demoStep{
			{plain + "up", d.plain(client, lab.Up)},
			{plain + "down", d.plain(client, lab.Down)},
			{"nat64d starts", d.start},
			{"ping " + lab.Server4As6, d.ping},
			{fmt.Sprintf("HTTP download of %d MiB", demoDownload>>20), d.download},
			{"curl http://" + serverName + "/, by name", visitor{client, lab.Gateway6, d.dir}.fetch},
			{"TCP up, through nat64d", d.through(client, lab.Up)},
			{"TCP down, through nat64d", d.through(client, lab.Down)},
		},
		config: fmt.Sprintf("dns64: { enabled: true, listen: [\"[%s]:53\"], upstreams: [%q] }\n", lab.Gateway6, lab.Server4),
		flags:  []string{"--v6", d.lab.NIC6, "--v4", d.lab.NIC4, "--pool6", lab.Prefix6, "--pool4", demoPool4},
		nics:   [2]string{d.lab.NIC6, d.lab.NIC4},
		from:   client, resolver: lab.Gateway6,
	}
}

// serve starts the servers of the IPv4-only host.
func (d *demo) serve() error {
	stop, err := d.lab.Server.ServeHTTP(demoHTTP)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, stop)
	if d.flood, err = d.lab.Server.ServeFlood(demoFlood); err != nil {
		return err
	}
	d.closers = append(d.closers, d.flood.Close)
	stop, err = serveNames(d.lab.Server)
	if err != nil {
		return err
	}
	d.closers = append(d.closers, stop)
	return nil
}

// plain measures the kernel's forwarding between the same namespaces, without translation.
func (d *demo) plain(from *lab.Namespace, way lab.Direction) func(context.Context) (string, error) {
	return func(ctx context.Context) (_ string, err error) {
		if err := d.lab.Forward(true); err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, d.lab.Forward(false)) }()
		return d.measure(ctx, from, "["+lab.Server6+"]"+demoFlood, way)
	}
}

func (d *demo) through(from *lab.Namespace, way lab.Direction) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) { return d.measure(ctx, from, demoTarget+demoFlood, way) }
}

func (d *demo) measure(ctx context.Context, from *lab.Namespace, address string, way lab.Direction) (string, error) {
	rate, err := d.flood.Rate(ctx, from, address, way, 1, d.options.Length)
	if err != nil {
		return "", err
	}
	return formatRate(rate), nil
}

// start runs the program as the gateway and waits until it is ready.
func (d *demo) start(ctx context.Context) (string, error) {
	began := time.Now()
	if err := d.launch(ctx); err != nil {
		return "", err
	}
	d.closers = append(d.closers, func() error { return d.gateway.Load().stop() })
	return fmt.Sprintf("ready after %d ms", time.Since(began).Milliseconds()), nil
}

func (d *demo) launch(ctx context.Context) error {
	g, err := startGateway(d.options.Program, d.lab.Gateway, d.dir, d.show.config, d.show.flags...)
	if err != nil {
		return err
	}
	d.gateway.Store(g)
	if err := g.wait(ctx); err != nil {
		return errors.Join(err, g.stop())
	}
	return nil
}

func (d *demo) ping(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoPings*time.Second)
	defer cancel()
	best := time.Duration(0)
	for i := range demoPings {
		took, err := d.lab.Client.Ping(ctx, lab.Server4As6, uint16(i), 56)
		if err != nil {
			return "", err
		}
		if i == 0 || took < best {
			best = took
		}
	}
	return fmt.Sprintf("%d of %d, best %.2f ms", demoPings, demoPings, best.Seconds()*1e3), nil
}

func (d *demo) download(ctx context.Context) (string, error) {
	return fetchSum(ctx, d.lab.Client, demoTarget+demoHTTP, demoDownload)
}

// fetchSum downloads from a server of the lab and compares the hash.
func fetchSum(ctx context.Context, from *lab.Namespace, address string, size int64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	got, err := from.Download(ctx, address, size)
	if err != nil {
		return "", err
	}
	if want := lab.Sum(size); got.Sum != want {
		return "", fmt.Errorf("the SHA-256 of the received data is %s, want %s", got.Sum, want)
	}
	return formatRate(got.Rate()) + ", SHA-256 right", nil
}

// present prints the tables. With Hold it also prints commands to try, and waits for the end.
func (d *demo) present(ctx context.Context) error {
	rows, err := d.gateway.Load().tables(ctx, demoListing)
	if err != nil {
		return fmt.Errorf("demo: step %q failed: %w", "list bindings and sessions", err)
	}
	d.screen.say(rows...)
	if !d.options.Hold {
		return nil
	}
	g, ctl := d.gateway.Load(), "nat64ctl"
	if beside := filepath.Join(filepath.Dir(d.options.Program), ctl); executable(beside) {
		ctl = beside
	}
	enter := "ip netns exec " + d.show.from.Name
	d.screen.say("", "Try, in another terminal:", "",
		"  "+enter+" ping "+lab.Server4As6,
		"  "+enter+" curl -o /dev/null 'http://"+demoTarget+"/stream/1000000000'",
		"  "+enter+" dig @"+d.show.resolver+" AAAA "+serverName,
		"  "+ctl+" --socket "+g.socket+" status",
		"  "+ctl+" --socket "+g.socket+" session list",
		"", "Ctrl-C ends it.")
	select {
	case <-ctx.Done():
		return nil
	case <-g.ended:
		return fmt.Errorf("demo: nat64d ended by itself%s", d.gateway.Load().lastWords())
	}
}

// finish stops nat64d and looks for anything that it has left behind.
func (d *demo) finish() error {
	if err := d.gateway.Load().stop(); err != nil {
		return err
	}
	if err := d.show.check(); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	d.screen.say("", "nat64d has stopped: its interfaces, routes, rules and settings are gone.")
	return nil
}

func executable(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.Mode().IsRegular() && i.Mode()&0o111 != 0
}

// watch updates the figures in the picture.
func (d *demo) watch(ctx context.Context) {
	tick := time.NewTicker(repaint)
	defer tick.Stop()
	meters := [2]meter{{at: d.lab.Gateway, nic: d.show.nics[0]}, {at: d.lab.Gateway, nic: d.show.nics[1]}}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			d.screen.update(d.figures(ctx, meters[0].read(now), meters[1].read(now)))
		}
	}
}

func (d *demo) figures(ctx context.Context, v6, v4 flow) figures {
	f := figures{v6: v6, v4: v4}
	status, ok := d.gateway.Load().status(ctx)
	if !ok {
		return f
	}
	f.running, f.drops = true, status.Drops
	for _, p := range status.Protocols {
		f.bindings += uint64(p.Bindings)
		f.sessions += uint64(p.Sessions)
	}
	return f
}

// meter converts an interface's byte counters to rates.
type meter struct {
	at     *lab.Namespace
	nic    string
	in     uint64
	out    uint64
	before time.Time
}

// flow is the traffic of an interface, in bits per second.
type flow struct{ in, out float64 }

func (m *meter) read(now time.Time) flow {
	s, err := m.at.Statistics(m.nic)
	if err != nil {
		return flow{} // a missing interface is shown as idle
	}
	var f flow
	if length := now.Sub(m.before).Seconds(); !m.before.IsZero() && length > 0 {
		f = flow{float64(s.RxBytes-m.in) * 8 / length, float64(s.TxBytes-m.out) * 8 / length}
	}
	m.in, m.out, m.before = s.RxBytes, s.TxBytes, now
	return f
}

func formatRate(bits float64) string {
	switch {
	case bits >= 1e9:
		return fmt.Sprintf("%.2f Gbit/s", bits/1e9)
	case bits >= 1e6:
		return fmt.Sprintf("%.1f Mbit/s", bits/1e6)
	default:
		return fmt.Sprintf("%.1f kbit/s", bits/1e3)
	}
}
