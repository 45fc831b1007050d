package test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

const reservedPorts = "net/ipv4/ip_local_reserved_ports"

// nat64d uses a NIC again that was down or deleted, and restores the guard of the machine's own address.
func TestInterfacesComeAndGo(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, ownPool)
	serveHTTP(t, l)
	checkDownload(t, l, 1<<20)
	down := func(nic string, up bool) func() error {
		return func() error { return l.Gateway.SetUp(nic, up) }
	}
	for _, c := range []struct {
		name      string
		away, new func() error
	}{
		{"v4 down and up", down(l.NIC4, false), down(l.NIC4, true)},
		{"v6 down and up", down(l.NIC6, false), down(l.NIC6, true)},
		{"v6 deleted and re-created", l.Unplug6, l.Plug6},
		{"v4 deleted and re-created", l.Unplug4, l.Plug4},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.away(); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Client.Ping(limit(t, 300*time.Millisecond), lab.Server4As6, 1, 8); err == nil {
				t.Error("got a reply while the link is down")
			}
			if err := c.new(); err != nil {
				t.Fatal(err)
			}
			eventually(t, recoverWithin, "a ping is answered", func() error {
				_, err := l.Client.Ping(limit(t, time.Second), lab.Server4As6, 2, 8)
				return err
			})
			resets := watchResets(t, l)
			checkDownload(t, l, 4<<20)
			if n := resets(); n != 0 {
				t.Errorf("the machine answered %d packets with RST", n)
			}
			if g.over() {
				t.Fatal("nat64d has ended")
			}
			if s := g.status(); !s.Ready {
				t.Errorf("not ready: %q", s.NotReady)
			}
		})
	}
	g.stop()
}

// A stop reverts all changes that a start made to the machine, and the start after a kill repairs what remains.
func TestKillAndRestart(t *testing.T) {
	l := network(t, lab.Options{})
	serveHTTP(t, l)
	if err := l.Gateway.SetSysctl(reservedPorts, "9999"); err != nil {
		t.Fatal(err)
	}
	expect := func(when string, wantTables int, wantPorts string) {
		t.Helper()
		if got := tables(t, l); len(got) != wantTables {
			t.Errorf("%s: nftables has %d tables, want %d: %q", when, len(got), wantTables, got)
		}
		if got, err := l.Gateway.Sysctl(reservedPorts); err != nil || got != wantPorts {
			t.Errorf("%s: %s is %q, want %q (%v)", when, reservedPorts, got, wantPorts, err)
		}
	}
	expect("before", 0, "9999")
	const while = "7000-8000,9999"
	first := start(t, l, ownPool)
	own := len(tables(t, l))
	if own == 0 {
		t.Error("running: nftables has no table, so the machine's address is not guarded")
	}
	expect("running", own, while)
	checkDownload(t, l, 1<<20)

	first.signal(syscall.SIGKILL)
	first.wait()
	second := launch(t, l, first.socket, "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", ownPool)
	second.ready()
	expect("running again after a kill", own, while)
	checkDownload(t, l, 1<<20)

	second.stop()
	expect("stopped", 0, "9999")
	third := start(t, l, ownPool)
	expect("started once more", own, while)
	third.signal(syscall.SIGKILL)
	third.wait()
	fourth := start(t, l, sparePool)
	expect("running with another pool after a kill", own, "9999")
	fourth.stop()
	expect("stopped once more", 0, "9999")
}

// Two gateways cannot share a socket, nor an interface unless configured, and the attempt does not affect the first
// one. The remains of a killed gateway do not prevent a start.
func TestSecondDaemonIsRefused(t *testing.T) {
	l := network(t, lab.Options{})
	killed := start(t, l, ownPool)
	killed.signal(syscall.SIGKILL)
	killed.wait()
	first := start(t, l, ownPool)
	pid := fmt.Sprint(first.cmd.Process.Pid)
	refused := func(name, socket string, want []string, args ...string) {
		t.Helper()
		second := launch(t, l, socket, args...)
		if code := second.wait(); code == 0 {
			t.Errorf("%s: exit code 0, want a failure", name)
		}
		for _, w := range append(want, pid) {
			if !strings.Contains(second.log.String(), w) {
				t.Errorf("%s: the log of the second, %q, lacks %s", name, second.log.String(), w)
			}
		}
	}
	flags := func(v6, v4 string) []string {
		return []string{"--v6", v6, "--v4", v4, "--pool6", "2001:db8:64::/96", "--pool4", sparePool}
	}
	refused("same socket", first.socket, []string{first.socket}, flags(l.NIC6, l.NIC4)...)
	refused("same interfaces", socketPath(t), []string{l.NIC6, "host.share_interfaces"}, flags(l.NIC6, l.NIC4)...)
	refused("one interface for both", socketPath(t), []string{l.NIC4, "host.share_interfaces"}, flags(l.NIC4, l.NIC4)...)
	refused("sides exchanged", socketPath(t), []string{"host.share_interfaces"}, flags(l.NIC4, l.NIC6)...)
	refused("interfaces shared on purpose, but not the guard", socketPath(t), []string{"host.guard"}, append(flags(l.NIC6, l.NIC4), "--share-interfaces")...)
	second := startConfig(t, l, "host: { guard: false, share_interfaces: true }\npool6: [ { prefix: '2001:db8:64::/96' } ]\npool4: [ { address: "+lab.Spare4+" } ]\n")
	second.stop()
	checkPing(t, l)
	serveHTTP(t, l)
	checkDownload(t, l, 1<<20)
	first.stop()
}

// nat64d waits for an interface or address that is missing at the start; meanwhile nat64ctl reports the reason.
func TestInterfacesComeLate(t *testing.T) {
	l := network(t, lab.Options{})
	serveHTTP(t, l)
	both := func(f, g func() error) func() error { return func() error { return errors.Join(f(), g()) } }
	address := func(verb string) func() error {
		return func() error { ip(t, l.Gateway, "addr "+verb+" "+lab.Gateway4+"/24 dev "+l.NIC4); return nil }
	}
	for _, c := range []struct {
		name      string
		away, new func() error
		want      []string
	}{
		{"both", both(l.Unplug4, l.Unplug6), both(l.Plug4, l.Plug6), []string{l.NIC4 + " (v4) does not exist", l.NIC6 + " (v6) does not exist"}},
		{"the address", address("del"), address("add"), []string{l.NIC4 + " (v4) has neither an address nor a route"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.away(); err != nil {
				t.Fatal(err)
			}
			g := launch(t, l, socketPath(t), "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", ownPool)
			eventually(t, startWithin, "the status says what is missing", func() error {
				out, errs, _ := g.ctl("status")
				for _, want := range append(c.want, "NOT READY") {
					if g.over() || !strings.Contains(out, want) {
						return errors.New(out + errs)
					}
				}
				return nil
			})
			if err := c.new(); err != nil {
				t.Fatal(err)
			}
			resets := watchResets(t, l)
			g.ready()
			checkDownload(t, l, 1<<20)
			if n := resets(); n != 0 {
				t.Errorf("the machine answered %d packets with RST", n)
			}
			if ports, err := l.Gateway.Sysctl(reservedPorts); err != nil || !strings.Contains(ports, "7000-8000") {
				t.Errorf("reserved ports %q, %v", ports, err)
			}
			g.stop()
		})
	}
}
