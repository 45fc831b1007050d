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
			fmt.Fprintf(&b, "-4 route %s %s%v %s metric %d\n", action, kind, p, hop4, metric)
			continue
		}
		bits := 32 + r.IntN(97)
		a := netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, byte(r.IntN(4)), 15: byte(r.IntN(4))})
		p, _ := a.Prefix(bits)
		fmt.Fprintf(&b, "-6 route %s %s%v %s metric %d\n", action, kind, p, hop6, metric)
	}
	return b.String()
}

// TestRoutesAreTheKernels changes routes at random while Run follows them, and then compares look-ups with what the
// kernel itself answers for the same destinations.
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
	for _, c := range []string{"net/ipv6/conf/" + l.NIC4 + "/disable_ipv6"} {
		if err := l.Gateway.SetSysctl(c, "0"); err != nil {
			t.Fatal(err)
		}
	}
	var tab *Table
	if err := l.Gateway.Do(func() (err error) {
		tab, err = New(Interfaces{V6: l.NIC6, V4: l.NIC4}, ARPAuto, slog.New(slog.DiscardHandler))
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
	for round := range 5 {
		batch := filepath.Join(t.TempDir(), "routes")
		if err := os.WriteFile(batch, []byte(routeCommands(r, l, 100)), 0o600); err != nil {
			t.Fatal(err)
		}
		// Commands that cannot be done say so; ip goes on.
		_, _ = l.Gateway.Output(t.Context(), "ip", "-force", "-batch", batch)
		deadline := time.Now().Add(5 * time.Second)
		for {
			wrong := compare(t, l, tab)
			if wrong == "" {
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
}

// compare returns a difference between tab and the kernel.
func compare(t *testing.T, l *lab.Lab, tab *Table) (wrong string) {
	t.Helper()
	if err := l.Gateway.Do(func() error {
		k, err := openKernel()
		if err != nil {
			return err
		}
		defer k.close()
		s := tab.state.Load()
		for i := range byte(5) {
			for j := range byte(5) {
				for d, a := range [sides]netip.Addr{
					v6: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0x99, i, 15: j}),
					v4: netip.AddrFrom4([4]byte{198, 18, i, j}),
				} {
					want := k.way(a, s.nics[d].Index)
					if got, _ := s.way(side(d), a); got != want && !ambiguous(&s.fib, a) {
						wrong = fmt.Sprintf("%v: %+v, the kernel says %+v", a, got, want)
					}
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return wrong
}

// ambiguous says whether the route to a has several hops: the kernel chooses by a hash of its own.
func ambiguous(f *fib, a netip.Addr) bool {
	rs, _ := f[1].Lookup(a)
	return slices.ContainsFunc(rs, func(r route) bool { return r.kind == unix.RTN_UNICAST && len(r.hops) > 1 })
}
