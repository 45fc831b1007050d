//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"nat64d/lab"
	"nat64d/test/guest"
)

// bed is the guest with the load generators at its ends.
type bed struct {
	guest        *guest.Guest
	mac6, mac4   net.HardwareAddr // of the client and of the server
	to4, to6     lane
	neighbours   string // a script that tells the guest the hardware addresses of the ends
	gateway      gateway
	clientSource netip.Addr
	server       netip.Addr // as the client knows it
}

// drop discards the load before the host's stack sees it, which would answer with ICMP errors.
const drop = `table netdev bench {
	chain in {
		type filter hook ingress device "eth0" priority 0
		udp %s 10000-10999 drop
	}
}`

func newBed(ctx context.Context, g *guest.Guest) (b *bed, err error) {
	b = &bed{guest: g}
	for _, e := range []struct {
		end  *lab.Namespace
		port string
		mac  *net.HardwareAddr
	}{{g.Client, "sport", &b.mac6}, {g.Server, "dport", &b.mac4}} {
		if out, err := e.end.Output(ctx, "nft", fmt.Sprintf(drop, e.port)); err != nil {
			return nil, fmt.Errorf("nft: %w: %s", err, out)
		}
		err := e.end.Do(func() error {
			nic, err := net.InterfaceByName("eth0")
			if err == nil {
				*e.mac = nic.HardwareAddr
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	for _, n := range []struct {
		address, nic string
		mac          net.HardwareAddr
	}{{lab.Client6, "eth0", b.mac6}, {guest.Client4, "eth0", b.mac6}, {lab.Server4, "eth1", b.mac4}} {
		b.neighbours += fmt.Sprintf("\nip neigh replace %s lladdr %v dev %s nud permanent", n.address, n.mac, n.nic)
	}
	return b, b.openLanes()
}

func (b *bed) openLanes() (err error) {
	for _, p := range []struct {
		at       **port
		end      *lab.Namespace
		protocol uint16
	}{
		{&b.to4.in, b.guest.Client, 0}, {&b.to4.out, b.guest.Server, allProtocols},
		{&b.to6.in, b.guest.Server, 0}, {&b.to6.out, b.guest.Client, allProtocols},
	} {
		if *p.at, err = openPort(p.end, p.protocol); err != nil {
			return err
		}
	}
	return nil
}

// settle is the time after a load until all its instructions are counted.
const settle = 150 * time.Millisecond

// instructions returns how many instructions the guest executes while f runs, and until it has settled.
func (b *bed) instructions(f func() error) (float64, error) {
	before, err := b.guest.Instructions()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	time.Sleep(settle)
	after, err := b.guest.Instructions()
	return after.Total() - before.Total(), err
}

// slope returns the cost of one unit of a load that is run with few and with many, so that what does not grow with the load,
// such as its start, cancels out.
func (b *bed) slope(few, many int, load func(n int) error) (float64, error) {
	a, err := b.instructions(func() error { return load(few) })
	if err != nil {
		return 0, err
	}
	c, err := b.instructions(func() error { return load(many) })
	return (c - a) / float64(many-few), err
}

// clientOrder returns the frames of n flows of the client, from the given port on, to a port of the server.
func (b *bed) clientOrder(n, first, to int) (o order, err error) {
	for i := range n {
		f := flow{netip.AddrPortFrom(b.clientSource, uint16(first+i)), netip.AddrPortFrom(b.server, uint16(to))}
		frame, err := f.frame(b.mac6, guest.MAC6)
		if err != nil {
			return o, err
		}
		o.frames = append(o.frames, frame)
	}
	return o, nil
}

// serverOrder opens n flows of the client and returns the frames that the server answers with.
func (b *bed) serverOrder(n int) (o order, err error) {
	there, err := b.clientOrder(n, firstPort, sinkPort)
	if err != nil {
		return o, err
	}
	server := netip.AddrPortFrom(netip.MustParseAddr(lab.Server4), sinkPort)
	var failed error
	err = b.to4.send(there, n, 1, func(r received) {
		frame, err := flow{server, r.from}.frame(b.mac4, guest.MAC4)
		o.frames, failed = append(o.frames, frame), errors.Join(failed, err)
	})
	return o, errors.Join(err, failed)
}

// used returns how many bytes the guest's kernel has allocated for its objects and all processes have for theirs.
func (b *bed) used(ctx context.Context) (float64, error) {
	out, err := b.guest.Run(ctx, `sleep 1; awk '$1 ~ /^(SUnreclaim|AnonPages|Shmem|PageTables):/ { n += $2 } END { print n }' /proc/meminfo`)
	if err != nil {
		return 0, err
	}
	kilobytes, err := strconv.Atoi(strings.TrimSpace(out))
	return float64(kilobytes) * 1024, err
}

// offloads switches the offloads of the ends: with them, they send super-packets, otherwise frames.
func (b *bed) offloads(ctx context.Context, on bool) error {
	value := map[bool]string{true: "on", false: "off"}[on]
	for _, end := range []*lab.Namespace{b.guest.Client, b.guest.Server} {
		if out, err := end.Output(ctx, "ethtool", "-K", "eth0", "tx", value, "tso", value, "gso", value, "sg", value); err != nil {
			return fmt.Errorf("ethtool: %w: %s", err, out)
		}
	}
	return nil
}
