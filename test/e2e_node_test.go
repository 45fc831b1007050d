//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// node is a machine whose own traffic, containers and networks use the nat64d that runs on it: the gateway of a lab, with two pods
// behind a bridge.
type node struct {
	*lab.Lab
	pods [2]*lab.Namespace
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{Lab: network(t, lab.Options{})}
	for i := range n.pods {
		pod, err := n.AddPod()
		if err != nil {
			t.Fatal(err)
		}
		n.pods[i] = pod
	}
	serveHTTP(t, n.Lab)
	return n
}

// run executes a command on the node.
func (n *node) run(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := n.Gateway.Output(limit(t, 10*time.Second), words[0], words[1:]...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// attach starts nat64d with both sides attached to the host, and more configuration.
func (n *node) attach(t *testing.T, yaml string, flags ...string) *daemon {
	t.Helper()
	socket := socketPath(t)
	file := write(t, t.TempDir(), fmt.Sprintf("version: 1\napi: { socket: %s }\n%s", socket, yaml))
	g := launch(t, n.Lab, socket, append([]string{"-c", file}, flags...)...)
	g.file = file
	g.ready()
	return g
}

const bothHosts = "interfaces: { v6: { name: host }, v4: { name: host } }\n"

// fetch downloads from a server in a namespace and compares the hash.
func fetchFrom(t *testing.T, n *lab.Namespace, address string) {
	t.Helper()
	const size = 4 << 20
	if got, err := n.Download(limit(t, 20*time.Second), address, size); err != nil {
		t.Errorf("from %s: %v", n.Name, err)
	} else if want := lab.Sum(size); got.Sum != want {
		t.Errorf("from %s: SHA-256 is %s, want %s", n.Name, got.Sum, want)
	}
}

// everyone downloads on the node itself, in a pod, and on the network behind the node.
func (n *node) everyone(t *testing.T) {
	t.Helper()
	for _, from := range []*lab.Namespace{n.Gateway, n.pods[0], n.Client} {
		if _, err := from.Ping(limit(t, 5*time.Second), lab.Server4As6, 1, 56); err != nil {
			t.Errorf("ping from %s: %v", from.Name, err)
		}
		fetchFrom(t, from, target+":80")
	}
}

// The node itself, its pods and its networks are served through any uplink, before and after damage and a crash. Nothing is left
// after a stop.
func TestNode(t *testing.T) {
	n := newNode(t)
	before := n.run(t, "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding")
	g := n.attach(t, bothHosts)
	n.everyone(t)
	if found, errs, code := g.ctl("doctor"); code != 0 || strings.Contains(found, "nat64-in") {
		t.Errorf("doctor: exit code %d: %s%s", code, found, errs)
	}
	t.Run("path MTU", func(t *testing.T) { n.checkPathMTU(t) })
	t.Run("own addresses", func(t *testing.T) { n.checkOwn(t, g) })
	t.Run("hairpin", func(t *testing.T) { n.checkHairpin(t, g) })
	t.Run("pool6", func(t *testing.T) { n.checkPool6(t, g) })
	t.Run("damage", func(t *testing.T) { n.checkDamage(t, g) })
	g.signal(unix.SIGKILL)
	g.wait()
	g = n.attach(t, bothHosts)
	n.everyone(t)
	g.stop()
	for _, line := range []string{"ip link", "ip route", "ip -6 route", "nft list ruleset"} {
		if out := n.run(t, line); strings.Contains(out, "nat64@") || strings.Contains(out, "dev nat64") || strings.Contains(out, "inet nat64d") {
			t.Errorf("%s after the stop: %s", line, out)
		}
	}
	if after := n.run(t, "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding"); after != before {
		t.Errorf("settings after the stop: %s, before the start: %s", after, before)
	}
}

// checkPathMTU makes the uplink smaller: the node's kernel reports that with its own address, and a pod learns it.
func (n *node) checkPathMTU(t *testing.T) {
	t.Helper()
	n.run(t, "ip link set v4 mtu 1400")
	defer n.run(t, "ip link set v4 mtu 1500")
	if _, err := n.pods[0].Upload(limit(t, 10*time.Second), target+":80", 1<<20); err != nil {
		t.Errorf("upload through a smaller uplink: %v", err)
	}
}

// checkOwn looks whether pods can reach IPv4 addresses of the node: not unless the configuration permits it.
func (n *node) checkOwn(t *testing.T, g *daemon) {
	t.Helper()
	echoTCP(t, n.Gateway, lab.Gateway4+":22")
	if c, err := n.pods[0].Dial(limit(t, 3*time.Second), "tcp6", net.JoinHostPort("64:ff9b::"+lab.Gateway4, "22")); err == nil {
		c.Close()
		t.Error("a pod reaches the node's own IPv4 address")
	}
	if g.dropped("host_address") == 0 {
		t.Error("nothing was dropped as host_address")
	}
}

// checkHairpin lets a pod reach a port of another one through its IPv4 address.
func (n *node) checkHairpin(t *testing.T, g *daemon) {
	t.Helper()
	stop, err := n.pods[1].ServeHTTP("[" + lab.PodAddress(1) + "]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	g.must("bib", "add", "tcp", "10.64.64.64:8080", "["+lab.PodAddress(1)+"]:80")
	fetchFrom(t, n.pods[0], "[64:ff9b::10.64.64.64]:8080")
	fetchFrom(t, n.Gateway, "[64:ff9b::10.64.64.64]:8080")
}

// checkPool6 adds and removes a prefix, which the node's routes follow.
func (n *node) checkPool6(t *testing.T, g *daemon) {
	t.Helper()
	const prefix = "2001:db8:64::/96"
	routed := func(want bool) {
		t.Helper()
		eventually(t, 5*time.Second, "routes through the pair", func() error {
			if out := n.run(t, "ip -6 route show dev nat64"); strings.Contains(out, prefix) != want {
				return errors.New(out)
			}
			return nil
		})
	}
	g.must("pool6", "add", prefix)
	routed(true)
	fetchFrom(t, n.pods[0], "[2001:db8:64::"+lab.Server4+"]:80")
	g.must("pool6", "remove", prefix)
	routed(false)
}

// checkDamage undoes parts of what nat64d has made, and expects them back.
func (n *node) checkDamage(t *testing.T, g *daemon) {
	t.Helper()
	for _, damage := range []string{"ip link del nat64", "nft flush ruleset", "ip link set nat64-v4-in down", "ip route flush dev nat64-v4 proto 164"} {
		n.run(t, damage)
		eventually(t, 15*time.Second, damage, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := n.pods[0].Ping(ctx, lab.Server4As6, 1, 56)
			return err
		})
	}
	n.everyone(t)
}

// Hosts that come by the interface of the IPv6 default route are not served, unless the configuration wants it.
func TestNodeRefusesUplink(t *testing.T) {
	n := newNode(t)
	n.run(t, "ip -6 route add default via "+lab.Client6+" dev v6")
	g := n.attach(t, bothHosts)
	ping := func(from *lab.Namespace) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := from.Ping(ctx, lab.Server4As6, 1, 56)
		return err
	}
	if ping(n.Client) == nil {
		t.Error("a host at the uplink is served")
	}
	if err := ping(n.pods[0]); err != nil {
		t.Errorf("a pod is not served: %v", err)
	}
	g.must("config", "set", "host.serve_uplink", "true")
	eventually(t, 5*time.Second, "serve_uplink", func() error { return ping(n.Client) })
	g.must("config", "set", "host.serve_uplink", "false")
	eventually(t, 5*time.Second, "the refusal", func() error {
		if ping(n.Client) == nil {
			return errors.New("still served")
		}
		return nil
	})
	g.stop()
}

// With forwarding left to the administrator, doctor finds that the machine does not forward.
func TestNodeWithoutForwarding(t *testing.T) {
	n := &node{Lab: network(t, lab.Options{})}
	g := &doctored{daemon: n.attach(t, bothHosts+"host: { forwarding: leave }\n")}
	n.run(t, "ip route add default via "+lab.Server4)
	g.together(provoked{check: "forwarding", do: func() { n.run(t, "sysctl -qw net.ipv4.ip_forward=1") }})
	if _, err := n.Client.Ping(limit(t, 5*time.Second), lab.Server4As6, 1, 56); err != nil {
		t.Error(err)
	}
	g.stop()
}

// With pool4 routed to the node, nothing is masqueraded, and IPv4 hosts reach ports of pods.
func TestNodeWithoutMasquerade(t *testing.T) {
	n := newNode(t)
	g := n.attach(t, "interfaces: { v6: { name: host }, v4: { name: uplink, attach: host, masquerade: false } }\n"+
		"pool4: [ { address: 198.51.100.7 } ]\nbib: [ { proto: tcp, v4: \"198.51.100.7:8080\", v6: \"["+lab.PodAddress(1)+"]:80\" } ]\n")
	n.everyone(t)
	if sources := g.must("session", "list"); !strings.Contains(sources, "198.51.100.7") {
		t.Errorf("sessions without the address of pool4: %s", sources)
	}
	stop, err := n.pods[1].ServeHTTP("[" + lab.PodAddress(1) + "]:80")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	fetchFrom(t, n.Server, "198.51.100.7:8080")
	g.stop()
}
