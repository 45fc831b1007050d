//go:build long

package test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// fragmentLoads are large datagrams at rates of iperf3; every n-th of their fragments is lost; 0: none.
var fragmentLoads = []struct {
	rate  string
	every int
}{
	{"20M", 100},
	{"100M", 1000},
	{"0", 0},
}

// fragmentMargin is the permitted additional loss of datagrams compared to the kernel, in the best of several
// attempts.
const fragmentMargin = 0.005

// unboundedPart is the minimum number of datagrams delivered through nat64d, relative to the kernel's NAT, if the sender
// has no rate limit. The measured values are 0.8 to 1.7; the margin is for noise. Loss cannot be compared in this case:
// the kernel's NAT runs in the sender's system call and slows the sender down, nat64d does not.
const unboundedPart = 2.0 / 3

// TestLongFragmentLoss measures the loss of fragmented datagrams. It compares nat64d with the kernel's NAT in a lab
// of the same kind, which reassembles as well (nf_defrag_ipv4, nf_defrag_ipv6). Up, nat64d reassembles IPv6
// fragments, down, IPv4 fragments.
func TestLongFragmentLoss(t *testing.T) {
	kernel, ours := kernelNAT(t), network(t, lab.Options{})
	g := start(t, ours, sparePool)
	for _, l := range []*lab.Lab{kernel, ours} {
		run(t, l.Server, "iperf3", "-s")
	}
	for _, load := range fragmentLoads {
		for _, l := range []*lab.Lab{kernel, ours} {
			losing(t, l.Client, true, load.every)
			losing(t, l.Server, false, load.every)
		}
		c := iperfCase{udp: true, args: []string{"-u", "-l", fmt.Sprint(largeDatagram), "-b", load.rate}}
		t.Run(fmt.Sprintf("up %s %d", load.rate, load.every), func(t *testing.T) {
			compareLoss(t, c, kernel, lab.Server6, ours)
		})
		c.down, c.args = true, append(c.args, "-R")
		t.Run(fmt.Sprintf("down %s %d", load.rate, load.every), func(t *testing.T) {
			compareLoss(t, c, kernel, lab.Server4, ours)
		})
	}
	g.stop()
}

// compareLoss runs one load through both gateways. It repeats it if nat64d loses more or, without a rate limit, delivers less.
func compareLoss(t *testing.T, c iperfCase, kernel *lab.Lab, server string, ours *lab.Lab) {
	share := func(x loss) float64 { return float64(x.lost) / float64(max(x.sent, 1)) }
	var seen []string
	for range lossAttempts {
		plain, got := iperf(t, kernel, server, c), iperf(t, ours, lab.Server4As6, c)
		seen = append(seen, fmt.Sprintf("kernel %.2f %% (%v), nat64d %.2f %% (%v)", 100*share(plain), plain, 100*share(got), got))
		unbounded := slices.Contains(c.args, "0")
		if share(got) <= share(plain)+fragmentMargin || unbounded && float64(got.arrived()) >= unboundedPart*float64(plain.arrived()) {
			t.Log(strings.Join(seen, "\n"))
			return
		}
	}
	t.Errorf("the kernel delivers more:\n%s", strings.Join(seen, "\n"))
}

// arrived returns the number of datagrams that the receiving host got.
func (x loss) arrived() uint64 { return x.sent - x.lost }

// kernelNAT returns a lab whose gateway is the kernel's NAT44 and NAT66 between the client and the server.
func kernelNAT(t *testing.T) *lab.Lab {
	t.Helper()
	l := network(t, lab.Options{})
	if err := errors.Join(l.Forward(true), l.Gateway.SetSysctl("net/ipv4/ip_forward", "1")); err != nil {
		t.Fatal(err)
	}
	ip, _ := tool(t, "ip")
	for _, c := range []struct {
		n    *lab.Namespace
		args string
	}{
		{l.Client, "addr add 198.18.0.2/24 dev eth0"},
		{l.Gateway, "addr add 198.18.0.1/24 dev " + l.NIC6},
		{l.Client, "route add 192.0.2.0/24 via 198.18.0.1"},
	} {
		if out, err := c.n.Output(limit(t, 10*time.Second), ip, strings.Fields(c.args)...); err != nil {
			t.Fatalf("ip %s: %v: %s", c.args, err, out)
		}
	}
	nft(t, l.Gateway, fmt.Sprintf(`table inet nat {
	chain post {
		type nat hook postrouting priority srcnat;
		oifname %q masquerade
	}
}`, l.NIC4))
	return l
}
