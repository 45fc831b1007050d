package nexthop

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/lab"
)

// routeCommands returns random changes to the routes of l's gateway, for ip -batch; some of them cannot be done.
func routeCommands(r *rand.Rand, l *lab.Lab, n int) string {
	var b strings.Builder
	for range n {
		action := []string{"add", "add", "append", "prepend", "replace", "del"}[r.IntN(6)]
		metric := r.IntN(3)*100 + 100
		hop4 := []string{"via 192.0.2.2", "via 192.0.2.3 mtu 1300", "dev " + l.NIC4, "dev " + l.NIC6}[r.IntN(4)]
		hop6 := []string{"via 2001:db8:1::2", "via 2001:db8:1::3 mtu 1300", "dev " + l.NIC6, "dev " + l.NIC4}[r.IntN(4)]
		kind := ""
		if r.IntN(5) == 0 {
			kind, hop4, hop6 = []string{"blackhole ", "unreachable ", "prohibit ", "throw "}[r.IntN(4)], "", ""
		}
		if r.IntN(2) == 0 {
			bits := 8 + r.IntN(25)
			a := netip.AddrFrom4([4]byte{198, 18, byte(r.IntN(4)), byte(r.IntN(4))})
			p, _ := a.Prefix(bits)
			fmt.Fprintf(&b, "route %s %s%v %s metric %d\n", action, kind, p, hop4, metric)
			continue
		}
		bits := 32 + r.IntN(97)
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, byte(r.IntN(4)), 15: byte(r.IntN(4))})
		p, _ := a.Prefix(bits)
		fmt.Fprintf(&b, "route %s %s%v %s metric %d\n", action, kind, p, hop6, metric)
	}
	return b.String()
}

// TestRoutesAreTheKernels changes routes at random while Run follows them, and then compares them with a list of the
// kernel's routes, and look-ups with what the kernel itself answers for the same destinations.
func TestRoutesAreTheKernels(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Gateway.SetSysctl("net/ipv6/conf/"+l.NIC4+"/disable_ipv6", "0"); err != nil {
		t.Fatal(err)
	}
	var tab *Table
	if err := l.Gateway.Do(func() (err error) {
		tab, err = New(Interfaces{V6: l.NIC6, V4: l.NIC4}, ARPAuto, slog.New(slog.NewTextHandler(t.Output(), nil)))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- l.Gateway.Do(func() error { return tab.Run(ctx) }) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for round := range 5 {
		batch := filepath.Join(t.TempDir(), "routes")
		if err := os.WriteFile(batch, []byte(routeCommands(r, l, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		// Commands that cannot be done say so; ip goes on.
		out, _ := l.Gateway.Output(t.Context(), "ip", "-force", "-batch", batch)
		if failed := strings.Count(out, "Command failed"); failed > 80 {
			t.Fatalf("%d of 100 changes failed:\n%s", failed, out)
		}
		deadline := time.Now().Add(5 * time.Second)
		for {
			wrong, routed := compare(t, l, tab)
			if wrong == "" {
				compared += routed
				break
			}
			if time.Now().After(deadline) { // it has had time to follow
				routes, _ := l.Gateway.Output(t.Context(), "ip", "route")
				routes6, _ := l.Gateway.Output(t.Context(), "ip", "-6", "route")
				commands, _ := os.ReadFile(batch)
				t.Fatalf("round %d: %s\n%s\n%s\nafter\n%s", round, wrong, routes, routes6, commands)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Logf("%d comparisons of destinations with a hop", compared)
	if compared < 20 {
		t.Errorf("only %d comparisons were of destinations with a hop", compared)
	}
}

// compare returns a difference between tab and the kernel, and how many destinations have a hop.
func compare(t *testing.T, l *lab.Lab, tab *Table) (wrong string, routed int) {
	t.Helper()
	if err := l.Gateway.Do(func() error {
		k, err := openKernel()
		if err != nil {
			return err
		}
		defer k.close()
		s := tab.state.Load()
		fresh, err := k.fib()
		if err != nil {
			return err
		}
		listed := contents(fresh)
		for p, rs := range contents(s.fib) {
			if listed[p] != rs {
				wrong = fmt.Sprintf("followed: %s%s, listed:%s", p, rs, listed[p])
			}
			delete(listed, p)
		}
		if len(listed) > 0 {
			wrong = fmt.Sprint("not followed: ", listed)
		}
		for i := range byte(5) {
			for j := range byte(5) {
				for d, a := range [sides]netip.Addr{
					v6: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, i, 15: j}),
					v4: netip.AddrFrom4([4]byte{198, 18, i, j}),
				} {
					if ambiguous(&s.fib, a) {
						continue
					}
					got, _ := s.way(side(d), a)
					want := k.way(a, s.nics[d].Index)
					if got != want {
						wrong = fmt.Sprintf("%v: %+v, the kernel says %+v", a, got, want)
					}
					if want.reason == drop.None {
						routed++
					}
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return wrong, routed
}

// ambiguous says whether there are several hops to a, from which the kernel chooses by a hash of its own or, among IPv6
// routes of one metric, by what it knows of their neighbours.
func ambiguous(f *fib, a netip.Addr) bool {
	rs, _ := f[1].Lookup(a)
	several := slices.ContainsFunc(rs, func(r route) bool { return r.kind == unix.RTN_UNICAST && len(r.hops) > 1 })
	return several || a.Is6() && len(rs) > 1 && rs[0].metric == rs[1].metric
}
