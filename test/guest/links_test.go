//go:build linux && guest

package guest

import (
	"fmt"
	"testing"
)

// inner is a network inside the guest, with the addresses of package lab, whose links are of kinds that the kernel of the test machine
// may lack. c6 is the client, s4 the server; the guest itself is the gateway, with the interfaces v6 and v4.
const inner = `set -e
	for n in c6 s4; do
		ip netns del $n 2>/dev/null || true
		ip netns add $n
		ip -n $n link set lo up
		ip netns exec $n sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
	done
	sysctl -qw net.ipv6.conf.default.accept_dad=0
	ip link add v6 type veth peer name eth0 netns c6
	ip link add v4 type veth peer name eth0 netns s4
	for l in v6 v4; do ip link set $l up; done
	for n in c6 s4; do ip -n $n link set eth0 up; done
	ip netns exec s4 ` + toolPath + ` tool serve >/run/serve.log 2>&1 &
`

// address gives the ends and the gateway their addresses; the arguments are the four interfaces.
const address = `
	ip addr add 2001:db8:1::1/64 dev %[2]s nodad
	ip addr add 192.0.2.1/24 dev %[3]s
	ip -n c6 addr add 2001:db8:1::2/64 dev %[1]s nodad
	ip -n c6 -6 route add 64:ff9b::/96 via 2001:db8:1::1
	ip -n s4 addr add 192.0.2.2/24 dev %[4]s
	setsid nat64d --v6 %[2]s --v4 %[3]s --pool6 64:ff9b::/96 --pool4 192.0.2.64:1024-65535 >/run/nat64d.log 2>&1 &
	for i in $(seq 300); do nat64ctl status >/run/status 2>&1 && exit 0; sleep 0.1; done
	cat /run/nat64d.log /run/status
	exit 1`

// teardown removes the network.
const teardown = `
	pkill -x nat64d
	while pidof nat64d; do sleep 0.1; done
	for n in c6 s4; do
		ip netns pids $n | xargs -r kill
		ip netns del $n
	done
	for l in v6 v4 red blue; do ip link del $l 2>/dev/null; done
	true`

// reach checks from inside the client that it reaches the server.
const reach = `set -e
	ip netns exec c6 ping -q -c 2 -i 0.2 -W 10 -s 3000 64:ff9b::192.0.2.2
	ip netns exec c6 ` + toolPath + ` tool check 64:ff9b::192.0.2.2`

// testLinks runs nat64d on each kind of link.
func testLinks(t *testing.T, g *Guest) {
	run(t, g, "systemctl stop nat64d; ip addr flush dev eth0; ip addr flush dev eth1") // the inner network has the same addresses
	for _, tt := range []struct {
		name, links string
		interfaces  [4]any // of the client, of the gateway towards it, towards the server, of the server
		check       string
	}{
		{"VLAN", `
			ip link add link v6 name v6.10 type vlan id 10 egress-qos-map 0:3
			ip -n c6 link add link eth0 name eth0.10 type vlan id 10 egress-qos-map 0:5
			ip link add link v4 name v4.20 type vlan id 20
			ip -n s4 link add link eth0 name eth0.20 type vlan id 20 egress-qos-map 0:7
			ip link set v6.10 up; ip link set v4.20 up
			ip -n c6 link set eth0.10 up; ip -n s4 link set eth0.20 up`,
			[4]any{"eth0.10", "v6.10", "v4.20", "eth0.20"}, reach},
		// The client and the server send frames with VLAN ID 0 and a priority, the gateway answers without a tag (IEEE 802.1Q).
		{"PriorityTag", `
			modprobe 8021q
			ip -n c6 link add link eth0 name prio type vlan id 0 egress-qos-map 0:5
			ip -n s4 link add link eth0 name prio type vlan id 0 egress-qos-map 0:5
			ip -n c6 link set prio up; ip -n s4 link set prio up`,
			[4]any{"eth0", "v6", "v4", "eth0"}, `
			mac() { cat /sys/class/net/$1/address; }
			ip -n c6 neigh replace 64:ff9b::192.0.2.2 lladdr $(mac v6) dev prio nud permanent
			ip -n c6 -6 route replace 64:ff9b::192.0.2.2 dev prio
			ip -n s4 neigh replace 192.0.2.64 lladdr $(mac v4) dev prio nud permanent
			ip -n s4 route replace 192.0.2.64 dev prio src 192.0.2.2
			` + reach + `
			test $(ip -n c6 -s -j link show prio | grep -o '"packets":[0-9]*' | tail -n 1 | cut -d : -f 2) -gt 10`},
		{"VRF", `
			ip link add red type vrf table 100; ip link set red up; ip link set v6 master red
			ip link add blue type vrf table 200; ip link set blue up; ip link set v4 master blue`,
			[4]any{"eth0", "v6", "v4", "eth0"}, reach},
		{"WireGuard", ``, [4]any{"eth0", "v6", "v4", "eth0"}, wireguard},
		{"IPsec", ``, [4]any{"eth0", "v6", "v4", "eth0"}, ipsec},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer run(t, g, teardown)
			run(t, g, inner+tt.links+fmt.Sprintf(address, tt.interfaces[:]...))
			run(t, g, tt.check)
		})
	}
}

// wireguard opens a tunnel from the client to the IPv4-only server and sends fragments, TCP and UDP through it.
const wireguard = `set -e
	wg genkey >/run/client.key; wg genkey >/run/server.key
	ip -n c6 link add wg0 type wireguard; ip -n s4 link add wg0 type wireguard
	ip netns exec s4 wg set wg0 listen-port 51820 private-key /run/server.key peer $(wg pubkey </run/client.key) allowed-ips 198.51.100.2/32
	ip netns exec c6 wg set wg0 private-key /run/client.key peer $(wg pubkey </run/server.key) allowed-ips 198.51.100.1/32 \
		endpoint [64:ff9b::192.0.2.2]:51820 persistent-keepalive 25
	ip -n c6 addr add 198.51.100.2/24 dev wg0; ip -n s4 addr add 198.51.100.1/24 dev wg0
	ip -n c6 link set wg0 up; ip -n s4 link set wg0 up
	ip netns exec c6 ping -q -c 2 -i 0.2 -W 10 -s 3000 198.51.100.1
	ip netns exec c6 ` + toolPath + ` tool check 198.51.100.1`

// ipsec checks that nat64d refuses packets that a policy of the gateway covers instead of sending them unencrypted, and that ESP of
// the client, which has no ports, is refused with a reason.
const ipsec = reach + `
	count() { nat64ctl stats | awk -v reason="reason=\"$1\"" '/^nat64_dropped_packets_total/ && index($1, reason) { n += $2 } END { print n + 0 }'; }
	ip xfrm policy add dst 192.0.2.2/32 dir out tmpl dst 192.0.2.2 proto esp mode tunnel
	for i in $(seq 100); do
		ip netns exec c6 ping -q -c 1 -W 1 64:ff9b::192.0.2.2 || [ $(count ipsec) = 0 ] || break
	done
	test $(count ipsec) -gt 0
	ip xfrm policy flush
	for i in $(seq 100); do ip netns exec c6 ping -q -c 1 -W 1 64:ff9b::192.0.2.2 && break; done
	` + reach + `
	ip -n c6 xfrm state add src 2001:db8:1::2 dst 64:ff9b::192.0.2.2 proto esp spi 1 mode transport enc 'cipher_null' ''
	ip -n c6 xfrm policy add dst 64:ff9b::192.0.2.2 dir out tmpl proto esp mode transport
	! ip netns exec c6 ping -q -c 1 -W 1 64:ff9b::192.0.2.2
	test $(count unknown_transport) -gt 0`

// node is like address, for a nat64d that is attached to the guest itself. The arguments are those of address, and a command that runs
// when it is ready.
const node = `
	ip addr add 2001:db8:1::1/64 dev %[2]s nodad
	ip addr add 192.0.2.1/24 dev %[3]s
	ip -n c6 addr add 2001:db8:1::2/64 dev %[1]s nodad
	ip -n c6 -6 route add 64:ff9b::/96 via 2001:db8:1::1
	ip -n s4 addr add 192.0.2.2/24 dev %[4]s
	setsid nat64d --v6 host --v4 host >/run/nat64d.log 2>&1 &
	for i in $(seq 300); do nat64ctl health >/run/status 2>&1 && exit 0; sleep 0.1; done
	cat /run/nat64d.log /run/status
	exit 1`

// testNode runs nat64d on the node itself, with kinds of links that the kernel of the test machine lacks.
func testNode(t *testing.T, g *Guest) {
	run(t, g, "systemctl stop nat64d; ip addr flush dev eth0; ip addr flush dev eth1")
	for _, tt := range []struct {
		name, links string
		interfaces  [4]any
		check       string
	}{
		{"VLAN", `
			ip link add link v6 name v6.10 type vlan id 10
			ip -n c6 link add link eth0 name eth0.10 type vlan id 10 egress-qos-map 0:5
			ip link add link v4 name v4.20 type vlan id 20
			ip -n s4 link add link eth0 name eth0.20 type vlan id 20 egress-qos-map 0:7
			ip link set v6.10 up; ip link set v4.20 up
			ip -n c6 link set eth0.10 up; ip -n s4 link set eth0.20 up`,
			[4]any{"eth0.10", "v6.10", "v4.20", "eth0.20"}, reach},
		{"PriorityTag", `
			modprobe 8021q
			ip -n c6 link add link eth0 name prio type vlan id 0 egress-qos-map 0:5
			ip -n c6 link set prio up`,
			[4]any{"eth0", "v6", "v4", "eth0"}, `
			ip -n c6 neigh replace 64:ff9b::192.0.2.2 lladdr $(cat /sys/class/net/v6/address) dev prio nud permanent
			ip -n c6 -6 route replace 64:ff9b::192.0.2.2 dev prio
			` + reach},
		{"VRF", `
			ip link add red type vrf table 100; ip link set red up; ip link set v6 master red
			ip link add blue type vrf table 200; ip link set blue up; ip link set v4 master blue`,
			[4]any{"eth0", "v6", "v4", "eth0"}, `
			ip link set nat64 master red; ip link set nat64-v4 master blue
			for i in $(seq 100); do ip route show table 200 | grep -q 10.64.64.64 && ip -6 route show table 100 | grep -q 64:ff9b && break; sleep 0.2; done
			` + reach},
		{"WireGuard", ``, [4]any{"eth0", "v6", "v4", "eth0"}, `set -e
			wg genkey >/run/gw.key; wg genkey >/run/server.key
			ip link add wg0 type wireguard; ip -n s4 link add wg0 type wireguard
			ip netns exec s4 wg set wg0 listen-port 51820 private-key /run/server.key peer $(wg pubkey </run/gw.key) allowed-ips 198.51.100.2/32
			wg set wg0 private-key /run/gw.key peer $(wg pubkey </run/server.key) allowed-ips 198.51.100.1/32 endpoint 192.0.2.2:51820
			ip addr add 198.51.100.2/24 dev wg0; ip -n s4 addr add 198.51.100.1/24 dev wg0
			ip link set wg0 up; ip -n s4 link set wg0 up
			ip netns exec c6 ping -q -c 2 -i 0.2 -W 10 -s 3000 64:ff9b::198.51.100.1
			check() { ip netns exec c6 ` + toolPath + ` tool check 64:ff9b::198.51.100.1; }
			check || check # the first datagram that is too large for the tunnel is lost, and its sender learns the path MTU
			ip link del wg0`},
		{"ESP", ``, [4]any{"eth0", "v6", "v4", "eth0"}, `set -e
			for ns in 1 s4; do
				for way in "192.0.2.1 192.0.2.2 7" "192.0.2.2 192.0.2.1 8"; do
					set -- $way
					nsenter=; [ $ns = 1 ] || nsenter="ip netns exec $ns"
					$nsenter ip xfrm state add src $1 dst $2 proto esp spi $3 mode transport auth 'hmac(sha256)' 0123456789abcdef0123456789abcdef enc 'cipher_null' ''
				done
			done
			ip xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir out tmpl proto esp mode transport
			ip xfrm policy add src 192.0.2.2 dst 192.0.2.1 dir in tmpl proto esp mode transport
			ip netns exec s4 ip xfrm policy add src 192.0.2.2 dst 192.0.2.1 dir out tmpl proto esp mode transport
			ip netns exec s4 ip xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir in tmpl proto esp mode transport
			ip netns exec c6 ping -q -c 5 -i 0.2 -W 10 -s 1200 64:ff9b::192.0.2.2
			ip -s xfrm state list spi 7 | grep -A1 'lifetime current' | grep -qv '0(bytes), 0(packets)'
			ip xfrm policy flush; ip xfrm state flush`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer run(t, g, teardown)
			run(t, g, inner+tt.links+fmt.Sprintf(node, tt.interfaces[:]...))
			run(t, g, tt.check)
		})
	}
}
