package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// gateway is a way to forward packets from the client to the server.
type gateway struct {
	name    string
	explain string
	start   func(context.Context, *bed, programs) error // sets the differing fields of the bed
}

// gateways are the compared gateways, in the order of the table. Ratios refer to the first one.
var gateways = []gateway{
	{nat44, "the kernel: IPv4 forwarding and nftables masquerade", startNAT44},
	{"kernel6fwd", "the kernel: IPv6 forwarding, nothing is translated", startForwarding},
	{"tayga-apt", "Tayga as Debian packages it, on a TUN device, and nftables masquerade", startTayga},
	{ours, "this project, with default settings", startOurs("auto")},
	{oursManage, "this project, with offloads: manage; not measured in a hurry", startOurs("manage")},
	{oursLeave, "this project, with offloads: leave; not measured in a hurry", startOurs("leave")},
	{nat44Host6, "nat44 with the client behind a bridge, like a pod; not measured in a hurry", behindBridge(startNAT44)},
	{oursHost6, "this project with the client behind a bridge and v6 attached to the host; not measured in a hurry", behindBridge(startHost6)},
}

// unhurried are the gateways that a quick run omits.
var unhurried = []string{oursManage, oursLeave, nat44Host6, oursHost6}

// Names of the kernel's NAT and of the gateways of this project.
const (
	nat44      = "nat44"
	ours       = "nat64d"
	oursManage = "nat64d-manage"
	oursLeave  = "nat64d-leave"
	nat44Host6 = "nat44-host6"
	oursHost6  = "nat64d-host6"
)

// programs are the external programs and nat64d.
type programs struct{ iperf, tayga, nat64d, nat64ctl program }

// program is an executable and its environment.
type program struct {
	path string
	env  []string
}

func (p program) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, p.path, args...)
	c.Env = append(os.Environ(), p.env...)
	return c
}

// within returns a command run by ip(8), which also mounts a /sys that shows the namespace's interfaces.
func (p program) within(ctx context.Context, namespace string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", namespace, p.path}, args...)...)
	c.Env = append(os.Environ(), p.env...)
	return c
}

// find looks for an installed program, then for an unpacked one with its libraries below the cache.
func find(name, cache string) (program, error) {
	if path, err := exec.LookPath(name); err == nil {
		return program{path: path}, nil
	}
	sys, err := filepath.Abs(filepath.Join(cache, "sys"))
	if err != nil {
		return program{}, err
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", sys + "/usr/bin", sys + "/usr/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		libraries, _ := filepath.Glob(sys + "/usr/lib/*-linux-gnu*") // the pattern is well-formed
		var env []string
		for _, l := range libraries {
			env = append(env, "LD_LIBRARY_PATH="+l)
		}
		return program{path, env}, nil
	}
	return program{}, fmt.Errorf("%s is neither installed nor below %s: run make deps", name, sys)
}

// forward makes the gateway's kernel a router.
func (b *bed) forward() error {
	return errors.Join(
		b.lab.Gateway.SetSysctl("net/ipv4/ip_forward", "1"),
		b.lab.Gateway.SetSysctl("net/ipv6/conf/all/forwarding", "1"))
}

// masquerade makes IPv4 packets from a network leave with the gateway's own address.
func (b *bed) masquerade(ctx context.Context, network string) error {
	return b.gateway.nft(ctx, `table ip bench {
	chain post {
		type nat hook postrouting priority srcnat
		ip saddr `+network+` oifname "`+b.lab.NIC4+`" masquerade
	}
}
`)
}

func startNAT44(ctx context.Context, b *bed, _ programs) error {
	b.source, b.destination = netip.MustParseAddr(client4), netip.MustParseAddr(lab.Server4)
	return errors.Join(
		b.forward(),
		b.client.do(ctx, "ip address add "+client4+"/24 dev "+clientNIC),
		b.gateway.do(ctx, "ip address add "+gateway4+"/24 dev "+b.inside),
		b.client.do(ctx, "ip route add default via "+gateway4),
		b.masquerade(ctx, client4Net))
}

func startForwarding(_ context.Context, b *bed, _ programs) error {
	b.destination, b.nativeServer = netip.MustParseAddr(lab.Server6), netip.MustParseAddr(lab.Server6)
	return b.lab.Forward(true)
}

func startTayga(ctx context.Context, b *bed, t programs) error {
	b.destination = netip.MustParseAddr(taygaServer)
	file := filepath.Join(b.dir, "tayga.conf")
	text := fmt.Sprintf("tun-device nat64\nipv4-addr 10.255.0.1\nipv6-addr 2001:db8:65::1\nprefix %s\ndynamic-pool %s\ndata-dir %s\n",
		taygaPrefix, taygaPool, b.dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if _, err := b.gateway.run(ctx, t.tayga.command(ctx, "-c", file, "--mktun")); err != nil {
		return err
	}
	// A longer queue than usual, so that packets of a flood are dropped late rather than immediately.
	err := errors.Join(
		b.forward(),
		b.gateway.do(ctx, "ip link set nat64 up txqueuelen 5000\n"+
			"ip address add 10.255.1.254/32 dev nat64\n"+
			"ip route add "+taygaPool+" dev nat64\n"+
			"ip -6 route add "+taygaPrefix+" dev nat64"),
		b.client.do(ctx, "ip -6 route add "+taygaPrefix+" via "+lab.Gateway6),
		b.masquerade(ctx, taygaPool))
	if err != nil {
		return err
	}
	b.daemon, err = b.gateway.start(t.tayga.command(ctx, "-c", file, "-d"))
	return err
}

// ourPool is the pool4 of nat64d: an unused address on the server's link, with ports for every source of a flood.
const ourPool = lab.Spare4

// startOurs returns a function that starts nat64d with a setting of interfaces.offloads.
func startOurs(offloads string) func(context.Context, *bed, programs) error {
	return func(ctx context.Context, b *bed, t programs) error { return b.startOurs(ctx, t, b.lab.NIC6, offloads) }
}

// startHost6 starts nat64d with its IPv6 side attached to the host, whose kernel forwards between the client and it.
func startHost6(ctx context.Context, b *bed, t programs) error {
	return b.startOurs(ctx, t, "host", "auto")
}

// behindBridge returns a function that moves the client behind a bridge before it starts the gateway. The bridge has the
// MAC of its only port.
func behindBridge(start func(context.Context, *bed, programs) error) func(context.Context, *bed, programs) error {
	return func(ctx context.Context, b *bed, t programs) error {
		err := b.gateway.do(ctx, "ip link add pods type bridge\n"+
			"ip link set pods up\n"+
			"ip address flush dev "+b.lab.NIC6+"\n"+
			"ip link set "+b.lab.NIC6+" master pods\n"+
			"ip -6 address add "+lab.Gateway6+"/64 dev pods nodad")
		if err != nil {
			return err
		}
		b.inside = "pods"
		return start(ctx, b, t)
	}
}

func (b *bed) startOurs(ctx context.Context, t programs, v6, offloads string) error {
	file := filepath.Join(b.dir, "nat64d.yaml")
	// Without hold-down, so that one measurement can follow another with an empty table.
	text := fmt.Sprintf("version: 1\ninterfaces:\n  v6: { name: %s }\n  v4: { name: %s }\n  offloads: %s\npool4:\n  - { address: %s }\n"+
		"sessions: { port_hold_down: 0s }\nlogging: { level: warn }\napi: { socket: %s }\nstate: { dir: %s }\n",
		v6, b.lab.NIC4, offloads, ourPool, b.socket(), b.stateDir())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	b.launch = func(ctx context.Context) (err error) {
		b.daemon, err = b.gateway.start(t.nat64d.within(ctx, b.lab.Gateway.Name, "-c", file))
		return err
	}
	if err := b.launch(ctx); err != nil {
		return err
	}
	return b.ready(ctx)
}

// ready waits until nat64d forwards.
func (b *bed) ready(ctx context.Context) error {
	for end := time.Now().Add(reachable); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err := b.control().Status(ctx); err == nil && s.Ready {
			return nil
		}
		if err := errors.Join(b.daemon.over(), context.Cause(ctx)); err != nil {
			return err
		}
	}
	return errors.New("nat64d is not ready")
}

func (b *bed) socket() string { return filepath.Join(b.dir, "nat64d.sock") }

// stateDir returns the state directory of nat64d, which must be on a tmpfs.
func (b *bed) stateDir() string { return filepath.Join("/dev/shm", filepath.Base(b.dir)) }

// control returns a client for nat64d.
func (b *bed) control() *control.Client {
	return &control.Client{Socket: b.socket(), Timeout: time.Minute}
}

// empty ends all sessions of nat64d and returns their number.
func (b *bed) empty(ctx context.Context) (sessions int, err error) {
	r, err := b.control().FlushPool4(ctx)
	if err != nil {
		return 0, err
	}
	_, err = b.control().AddPool4(ctx, control.Pool4Change{Addresses: ourPool})
	return r.Sessions, err
}
