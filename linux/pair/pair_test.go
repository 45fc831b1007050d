//go:build linux

package pair_test

import (
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"nat64d/lab"
	"nat64d/linux/pair"
	"nat64d/packet"
)

// host returns an empty network namespace for the test.
func host(t *testing.T) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// do runs a command in this thread's namespace.
func do(t *testing.T, line string) string {
	t.Helper()
	words := strings.Fields(line)
	out, err := exec.Command(words[0], words[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is missing in %s", w, text)
		}
	}
}

var prefixes = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2001:db8:64::/96")}

// Ensure repairs a damaged pair and adapts it to other options, and Remove removes it.
func TestPair(t *testing.T) {
	l := host(t)
	if err := l.Gateway.Do(func() error { life(t); return nil }); err != nil {
		t.Fatal(err)
	}
}

func life(t *testing.T) {
	p := &pair.Pair{Name: "nat64", Family: packet.V6, MTU: 1500, Addr: netip.MustParseAddr("fd00:64::53")}
	bring := func(to []netip.Prefix, want bool) {
		t.Helper()
		changed, err := p.Ensure()
		if err != nil {
			t.Fatal(err)
		}
		routed, err := p.Route(to)
		if err != nil {
			t.Fatal(err)
		}
		if any := len(changed)+len(routed) > 0; any != want {
			t.Errorf("changed %q %q, want changes: %v", changed, routed, want)
		}
	}
	bring(prefixes, true)
	bring(prefixes, false)
	contains(t, do(t, "ip -6 route show dev nat64"), "64:ff9b::/96 via fe80::64", "2001:db8:64::/96 via fe80::64")
	contains(t, do(t, "ip -6 neighbour show dev nat64"), "fe80::64", "PERMANENT")
	for _, damage := range []string{
		"ip link set nat64 down", "ip link set nat64-in down", "ip link set nat64-in mtu 1400", "ip link del nat64", "ip -6 route flush dev nat64 proto 164",
		"ip address del fd00:64::53/128 dev nat64", "ip -6 neighbour del fe80::64 dev nat64", "sysctl -qw net.ipv6.conf.nat64-in.disable_ipv6=0",
	} {
		do(t, damage)
		bring(prefixes, true)
		bring(prefixes, false)
	}
	bring(prefixes[:1], true)
	if routes := do(t, "ip -6 route show dev nat64"); strings.Contains(routes, "2001:db8:64::/96") {
		t.Errorf("a route that is not wanted is still there: %s", routes)
	}
	for range 2 {
		if err := p.Remove(); err != nil {
			t.Error(err)
		}
	}
	if out := do(t, "ip link"); strings.Contains(out, "nat64@") || strings.Contains(out, "nat64-in") {
		t.Errorf("interfaces after Remove: %s", out)
	}
}

// An interface that another program has made is refused, and stays.
func TestForeignInterface(t *testing.T) {
	l := host(t)
	err := l.Gateway.Do(func() error {
		for _, made := range []string{"ip link add nat64 type bridge", "ip link add nat64 type veth peer name nat64-in", "ip link add nat64 type veth peer name other"} {
			do(t, made)
			p := &pair.Pair{Name: "nat64", Family: packet.V6, MTU: 1500}
			if _, err := p.Ensure(); err == nil || !strings.Contains(err.Error(), "choose another name") {
				t.Errorf("after %s: %v", made, err)
			}
			if err := p.Remove(); err == nil {
				t.Errorf("after %s: Remove succeeds", made)
			}
			do(t, "ip link del nat64")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The rules are those that are wanted, whatever happens to them, and none without a need.
func TestRules(t *testing.T) {
	l := host(t)
	err := l.Gateway.Do(func() error {
		want := pair.Rules{
			Masquerade: []netip.Prefix{netip.MustParsePrefix("10.64.64.64/30"), netip.MustParsePrefix("192.0.2.7/32")}, Inside: "nat64-v4",
			Refuse: []string{"eth0", "eth1"}, To: "nat64",
		}
		ensure := func(r *pair.Rules, changes bool) {
			t.Helper()
			if changed, err := r.Ensure(); err != nil || changed != changes {
				t.Errorf("Ensure: changed %v, %v", changed, err)
			}
		}
		ensure(&pair.Rules{}, false)
		ensure(&want, true)
		ensure(&want, false)
		contains(t, do(t, "nft list table inet nat64d"), `ip saddr 10.64.64.64/30 oifname != "nat64-v4"`, "ip saddr 192.0.2.7", "masquerade",
			`iifname "eth1" oifname "nat64"`, "drop")
		for _, damage := range []string{"nft flush ruleset", "nft flush table inet nat64d", "nft delete chain inet nat64d forward", "nft insert rule inet nat64d forward accept"} {
			do(t, damage)
			ensure(&want, true)
			ensure(&want, false)
		}
		want.Refuse = nil
		ensure(&want, true)
		ensure(&pair.Rules{}, true)
		if out := do(t, "nft list ruleset"); strings.Contains(out, "nat64d") {
			t.Errorf("left: %s", out)
		}
		return want.Remove()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Forward changes what is needed, a later process knows it, and PutBack restores it.
func TestForward(t *testing.T) {
	l := host(t)
	err := l.Gateway.Do(func() error {
		do(t, "ip link add up0 type veth peer name far")
		do(t, "ip link set up0 up")
		do(t, "ip link set far up")
		do(t, "ip -6 route add default via fe80::1 dev up0 proto ra")
		do(t, "ip link add up1 type veth peer name far1")
		do(t, "ip link set up1 up")
		do(t, "ip -6 route add default via fe80::1 dev up1 metric 2000")
		do(t, "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv4.ip_forward=0")
		now := func() []string {
			return strings.Fields(do(t, "sysctl -n net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.up0.accept_ra net.ipv6.conf.up1.accept_ra"))
		}
		p := &pair.Pair{Name: "nat64", Family: packet.V6, MTU: 1500}
		if _, err := p.Ensure(); err != nil {
			t.Fatal(err)
		}
		s := pair.Settings{}
		for _, f := range []packet.Family{packet.V6, packet.V4, packet.V6} {
			if err := s.Forward(f); err != nil {
				t.Error(err)
			}
		}
		if got := now(); !slices.Equal(got, []string{"1", "1", "2", "1"}) {
			t.Errorf("settings: %q", got)
		}
		if err := p.Keep(s); err != nil {
			t.Error(err)
		}
		later, err := p.Kept()
		if err != nil || len(later) != 3 {
			t.Errorf("kept: %v, %v", later, err)
		}
		if err := later.PutBack(); err != nil {
			t.Error(err)
		}
		if got := now(); !slices.Equal(got, []string{"0", "0", "1", "1"}) {
			t.Errorf("settings after PutBack: %q", got)
		}
		up, err := pair.Uplinks6()
		if err != nil || !slices.Equal(up, []string{"up0", "up1"}) {
			t.Errorf("Uplinks6: %q, %v", up, err)
		}
		do(t, "ip route add default via 203.0.113.1 dev up1 onlink metric 7")
		do(t, "ip route add default via 203.0.113.1 dev up0 onlink metric 8")
		if up, err := pair.Uplink4(); up != "up1" || err != nil {
			t.Errorf("Uplink4: %q, %v", up, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
