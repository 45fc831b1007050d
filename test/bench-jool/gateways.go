//go:build linux

package main

import (
	"context"
	"errors"
	"net/netip"

	"nat64d/lab"
	"nat64d/test/guest"
)

// gateway is a program or a kernel function that connects the client to the server.
type gateway struct {
	name, explain string
	start         string // a script in the guest, which already has its addresses
	stop          string // a script that ends the gateway, as for its upgrade, so that start can start it again
	ipv4          bool   // the client uses IPv4
}

// The addresses of the client and of the server as the client knows it.
func (g gateway) ends() (client, server netip.Addr) {
	if g.ipv4 {
		return netip.MustParseAddr(guest.Client4), netip.MustParseAddr(lab.Server4)
	}
	return netip.MustParseAddr(lab.Client6), netip.MustParseAddr(lab.Server4As6)
}

// The names of the gateways that ratios refer to.
const (
	kernelNAT = "nat44"
	jool      = "jool"
)

var gateways = []gateway{
	{kernelNAT, "the kernel: IPv4 forwarding and nftables masquerade", `
		sysctl -qw net.ipv4.ip_forward=1
		modprobe nf_conntrack
		sysctl -qw net.netfilter.nf_conntrack_max=1000000
		nft -f - <<-'END'
			table ip nat {
				chain post {
					type nat hook postrouting priority 100
					ip saddr 203.0.113.0/24 oifname eth1 masquerade
				}
			}
		END`, "nft flush ruleset", true},
	{jool, "the module Jool, in netfilter", `
		sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		ip addr add 192.0.2.64/32 dev eth1
		modprobe jool
		jool instance add -6 64:ff9b::/96 --netfilter
		for protocol in tcp udp icmp; do jool pool4 add 192.0.2.64 1024-65535 --$protocol; done`, `
		ip addr del 192.0.2.64/32 dev eth1
		modprobe -r jool jool_common`, false},
	{"nat64d", "nat64d with the default settings", startOurs(""), stopOurs, false},
	{"nat64d-leave", "nat64d with interfaces.offloads: leave", startOurs("leave"), stopOurs, false},
	{"nat64d-manage", "nat64d with interfaces.offloads: manage", startOurs("manage"), stopOurs, false},
	{"nat64d-sleep", "nat64d with interfaces.busy_poll: 0s", "export NAT64D_INTERFACES_BUSY_POLL=0s\n" + startOurs(""), stopOurs, false},
}

// stopOurs kills nat64d.
const stopOurs = `
	pkill -KILL -x nat64d
	for i in $(seq 100); do pgrep -x nat64d >/dev/null || break; sleep 0.1; done`

// startOurs starts nat64d and waits until it forwards.
func startOurs(offloads string) string {
	if offloads != "" {
		offloads = "--offloads " + offloads
	}
	return `
		setsid nat64d --v6 eth0 --v4 eth1 --pool6 64:ff9b::/96 --pool4 192.0.2.64:1024-65535 ` + offloads + ` >/run/nat64d.log 2>&1 &
		for i in $(seq 100); do
			nat64ctl status >/run/status 2>&1 && break
			sleep 0.1
		done
		cat /run/nat64d.log /run/status
		nat64ctl status >/dev/null`
}

// reset ends every gateway and gives the guest the addresses and neighbours of its links, which do not expire, so that nothing
// else is sent during a measurement.
const reset = `
	pkill -x nat64d
	for i in $(seq 100); do pidof nat64d >/dev/null || break; sleep 0.1; done
	jool instance flush 2>/dev/null
	modprobe -qr jool jool_common
	nft flush ruleset
	modprobe -qr nft_masq nf_conntrack_netlink
	set -e
	sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
		net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0 net.ipv4.conf.all.rp_filter=0
	for i in eth0 eth1; do
		ip addr flush dev $i
		ip link set $i up
		echo 0 >/sys/class/net/$i/threaded
		ethtool -K $i gro on tx-udp-segmentation off rx-udp-gro-forwarding off 2>/dev/null
		sysctl -qw net.ipv4.conf.$i.rp_filter=0
	done
	ip addr add 2001:db8:1::1/64 dev eth0 nodad
	ip addr add 203.0.113.1/24 dev eth0
	ip addr add 192.0.2.1/24 dev eth1`

// start makes the gateway the only one in the guest.
func (b *bed) start(ctx context.Context, g gateway) error {
	if err := errors.Join(b.guest.Batch(0), b.offloads(ctx, true)); err != nil { // a failed measurement has left them
		return err
	}
	if _, err := b.guest.Run(ctx, reset+b.neighbours); err != nil {
		return err
	}
	// Afterwards the guest has nothing left to do.
	_, err := b.guest.Run(ctx, "set -e\n"+g.start+"\nsleep 2")
	return err
}
