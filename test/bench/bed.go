package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"nat64d/lab"
)

// offload is a setting of the interfaces' offloads.
type offload int

const (
	// offloadNone: frames have at most the size of the MTU and complete checksums everywhere.
	offloadNone offload = iota
	// offloadNIC: the same frames arrive, and the gateway's interfaces segment and complete checksums when sending,
	// like real NICs.
	offloadNIC
	// offloadAll: the ends send super-packets of 64 KiB with partial checksums, like hosts on the same machine.
	offloadAll
)

// prefix is prepended to the names of measurements.
func (o offload) prefix() string { return [...]string{"", "nic:", "gso:"}[o] }

// Further addresses of the network, see package lab.
const (
	clientNIC   = "eth0"
	serverNIC   = "eth0"
	client4     = "203.0.113.2" // of the client, for NAT44
	gateway4    = "203.0.113.1" // of the gateway towards the client, for NAT44
	client4Net  = "203.0.113.0/24"
	taygaPrefix = "2001:db8:64::/96" // Tayga refuses documentation addresses in 64:ff9b::/96
	taygaServer = "2001:db8:64::192.0.2.2"
	taygaPool   = "10.255.0.0/24" // never leaves the gateway
	udpHeaders4 = 28
	udpHeaders6 = 48
)

// bed is the network and the load generators at its ends: a client, a gateway with or without a program, and a
// server.
type bed struct {
	lab                     *lab.Lab
	client, gateway, server place
	link                    string
	offload                 offload
	sinks                   sinks // of TAP links

	source, destination netip.Addr // of the client, and of the server as seen by the client
	nativeServer        netip.Addr // the server's own address
	mac                 net.HardwareAddr
	inside              string                      // the gateway's interface with the addresses of the client's link
	daemon              *process                    // the gateway program; nil if the kernel is the gateway
	launch              func(context.Context) error // starts nat64d, once more after a kill
	ends                []*process
	dir                 string // for the gateway's files
}

// newBed builds a network without a gateway. The processors are those of the ends and of the gateway.
func newBed(ctx context.Context, link string, o offload, endCPU, gatewayCPU int, dir string) (*bed, error) {
	l, err := lab.New(lab.Options{TAP: link == linkTAP})
	if err != nil {
		return nil, err
	}
	b := &bed{
		lab: l, link: link, offload: o, dir: dir, inside: l.NIC6,
		client: place{l.Client, endCPU}, gateway: place{l.Gateway, gatewayCPU}, server: place{l.Server, endCPU},
		source: netip.MustParseAddr(lab.Client6), destination: netip.MustParseAddr(lab.Server4As6),
		nativeServer: netip.MustParseAddr(lab.Server4),
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bed) prepare(ctx context.Context) error {
	if err := b.setOffloads(ctx); err != nil {
		return err
	}
	if b.link == linkTAP {
		if err := b.attachSinks(); err != nil {
			return err
		}
	}
	err := b.lab.Gateway.Do(func() error {
		nic, err := net.InterfaceByName(b.lab.NIC6)
		if err != nil {
			return err
		}
		b.mac = nic.HardwareAddr
		return nil
	})
	if err != nil {
		return err
	}
	return errors.Join(
		b.steer(ctx, b.gateway, b.lab.NIC6, true),
		b.steer(ctx, b.gateway, b.lab.NIC4, true),
		b.server.nft(ctx, sink(serverNIC, fmt.Sprintf("udp dport %d-%d", sinkPort, sinkPort+sinkPorts-1))),
		b.client.nft(ctx, sink(clientNIC, fmt.Sprintf("udp sport %d", sinkPort))),
		b.lab.Client.SetSysctl("net/ipv4/ip_local_port_range", "1024 65535"),
		b.lab.Client.SetSysctl("net/ipv4/tcp_tw_reuse", "1"))
}

// setOffloads disables offloads of the interfaces. Initially all are enabled.
func (b *bed) setOffloads(ctx context.Context) error {
	none := func(p place, nic string) error {
		return p.do(ctx, "ethtool -K "+nic+" tso off gso off gro off tx off rx off")
	}
	if b.offload == offloadAll {
		return nil
	}
	err := errors.Join(none(b.client, clientNIC), none(b.server, serverNIC))
	if b.offload == offloadNone {
		err = errors.Join(err, none(b.gateway, b.lab.NIC6), none(b.gateway, b.lab.NIC4))
	}
	return err
}

// steer makes the processor of the place process the packets that an interface receives, or else the sender's
// processor.
func (b *bed) steer(ctx context.Context, p place, nic string, here bool) error {
	mask := 0
	if here {
		mask = 1 << p.cpu
	}
	// The mount determines which interfaces /sys shows; ip(8) mounts it again.
	script := fmt.Sprintf("echo %x > /sys/class/net/%s/queues/rx-0/rps_cpus", mask, nic)
	_, err := p.run(ctx, exec.CommandContext(ctx, "ip", "netns", "exec", p.Name, "sh", "-c", script))
	return err
}

// steerEnds makes the ends' processor run the ends' stacks, for TCP. For floods, which are dropped immediately, the
// delivering processor does.
func (b *bed) steerEnds(ctx context.Context, here bool) error {
	return errors.Join(b.steer(ctx, b.client, clientNIC, here), b.steer(ctx, b.server, serverNIC, here))
}

// sink is a table that counts and drops what matches before the host's stack sees it.
func sink(nic, match string) string {
	return `table netdev bench {
	counter got { }
	chain in {
		type filter hook ingress device "` + nic + `" priority 0
		` + match + ` counter name got drop
	}
}
`
}

// count returns the number of payload bytes that a sink has counted. The number of packets would be wrong, because
// coalesced packets count as one.
func (b *bed) count(ctx context.Context, p place) (int, error) {
	if b.link == linkTAP {
		if p == b.server {
			return int(b.sinks.up.Load()), nil
		}
		return int(b.sinks.down.Load()), nil
	}
	out, err := p.run(ctx, exec.CommandContext(ctx, "nft", "-j", "list", "counter", "netdev", "bench", "got"))
	if err != nil {
		return 0, err
	}
	var list struct {
		Nftables []struct {
			Counter *struct{ Packets, Bytes int }
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return 0, fmt.Errorf("nft: %w", err)
	}
	headers := udpHeaders4
	if p == b.client && b.source.Is6() || p == b.server && b.nativeServer.Is6() {
		headers = udpHeaders6
	}
	for _, o := range list.Nftables {
		if o.Counter != nil {
			return o.Counter.Bytes - headers*o.Counter.Packets, nil
		}
	}
	return 0, errors.New("nft: the sink has no counter")
}

// serve starts the servers of the measurements and waits until the client reaches them.
func (b *bed) serve(ctx context.Context, iperf program) error {
	cmd, err := tool(ctx, toolServe, serveOrder{})
	if err != nil {
		return err
	}
	for _, c := range []*exec.Cmd{cmd, iperf.command(ctx, "-s")} {
		s, err := b.server.start(c)
		if err != nil {
			return err
		}
		b.ends = append(b.ends, s)
	}
	for end := time.Now().Add(reachable); ; {
		r, err := call[roundTripResult](ctx, b.client, toolRoundTrip, roundTripOrder{b.destination, 2, time.Second, 0})
		switch {
		case err != nil && ctx.Err() != nil:
			return err
		case err == nil && r.Lost == 0:
			return nil
		case b.died() != nil:
			return b.died()
		case time.Now().After(end):
			return fmt.Errorf("the client does not reach the server: %w", errors.Join(err, b.ends[0].over()))
		}
	}
}

// reachable bounds the time until a started gateway forwards its first packet.
const reachable = 10 * time.Second

// died returns an error with the output of the gateway's program if it has ended.
func (b *bed) died() error {
	if b.daemon == nil {
		return nil
	}
	return b.daemon.over()
}

// close stops the gateway and the ends and removes the network.
func (b *bed) close() error {
	if b.daemon != nil {
		b.daemon.stop()
	}
	for _, s := range b.ends {
		s.stop()
	}
	_ = os.RemoveAll(b.stateDir()) // of the memory
	return b.lab.Close()
}
