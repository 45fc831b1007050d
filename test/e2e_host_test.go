package test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/test/dissect"
)

// pool4 is the machine's own address: the machine's own services and connections still work.
func TestPoolOnHostAddress(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, ownPool)
	serveHTTP(t, l)
	echoTCP(t, l.Gateway, lab.Gateway4+":22")
	resets := watchResets(t, l)
	for i := range 20 {
		checkDownload(t, l, 1<<20)
		checkHostService(t, l, uint64(i))
	}
	checkUpload(t, l, 16<<20)
	// The machine is a client of the same server, with the same address.
	if got, err := l.Gateway.Download(limit(t, 20*time.Second), lab.Server4+":80", 1<<20); err != nil || got.Sum != lab.Sum(1<<20) {
		t.Errorf("download by the gateway machine itself: %+v, %v", got, err)
	}
	if n := resets(); n != 0 {
		t.Errorf("the machine answered %d packets with RST", n)
	}
	checkForcedBinding(t, g)
	g.stop()
}

// checkForcedBinding binds a client to the port of the machine's own service. nat64d refuses this without --force.
func checkForcedBinding(t *testing.T, g *daemon) {
	t.Helper()
	binding := []string{"bib", "add", "tcp", lab.Gateway4 + ":22", reach6(service)}
	if _, errs, code := g.ctl(binding...); code != 1 || !strings.Contains(errs, "listens on") || !strings.Contains(errs, "--force") {
		t.Errorf("the port of a service was bound, or the error does not mention --force: exit code %d, %s", code, errs)
	}
	g.must(append(binding, "--force")...)
	g.must("bib", "remove", "tcp", lab.Gateway4+":22")
}

// nat64d refuses to start if a program of the machine listens on a port of pool4. The error mentions --force, which
// overrides it.
func TestForceUsesPortsOfHost(t *testing.T) {
	l := network(t, lab.Options{})
	echoTCP(t, l.Gateway, lab.Gateway4+":7005")
	g := launch(t, l, socketPath(t), "--v6", l.NIC6, "--v4", l.NIC4, "--pool4", ownPool)
	if code := g.wait(); code != 1 {
		t.Errorf("exit code %d without --force, want 1", code)
	}
	for _, want := range []string{"port 7005", "--force", "host.force"} {
		if said := g.log.String(); !strings.Contains(said, want) {
			t.Errorf("it says %q, which lacks %q", said, want)
		}
	}
	g = start(t, l, ownPool, "--force")
	checkPing(t, l)
	g.stop()
}

// Without the guard, the machine's own TCP sends an RST for each reply to a connection that it does not know.
func TestHostAddressNeedsGuard(t *testing.T) {
	l := network(t, lab.Options{})
	startConfig(t, l, "pool4:\n  - { address: 192.0.2.1, ports: 7000-8000 }\nhost: { guard: false }\n")
	serveHTTP(t, l)
	resets := watchResets(t, l)
	if got, err := l.Client.Download(limit(t, 5*time.Second), target+":80", 1<<20); err == nil {
		t.Errorf("a download of %d bytes succeeded without the guard, so this lab cannot test the guard", got.Bytes)
	}
	if resets() == 0 {
		t.Error("no RST from the machine without the guard, so this lab cannot test the guard")
	}
}

// checkHostService uses a service of the gateway machine from the IPv4 side.
func checkHostService(t *testing.T, l *lab.Lab, number uint64) {
	t.Helper()
	c, err := l.Server.Dial(limit(t, 5*time.Second), "tcp", lab.Gateway4+":22")
	if err != nil {
		t.Errorf("the machine's own service: %v", err)
		return
	}
	defer c.Close()
	if err := exchange(c, number); err != nil {
		t.Errorf("the machine's own service: %v", err)
	}
}

// onlyResets accepts RST segments of TCP over IPv4, so that other traffic cannot fill the socket's buffer.
var onlyResets = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1}, // protocol
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP, SkipTrue: 4},
	bpf.LoadMemShift{Off: 0}, // header length
	bpf.LoadIndirect{Off: 13, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: 0x04, SkipTrue: 1},
	bpf.RetConstant{Val: 128},
	bpf.RetConstant{Val: 0},
}

// watchResets listens on the server's link. The returned function stops and returns the number of RST segments from
// ports of ownPool. The clients of these tests send none.
func watchResets(t *testing.T, l *lab.Lab) func() int {
	t.Helper()
	resets := sniff(t, l.Server, "eth0", unix.ETH_P_IP, onlyResets)
	return func() int {
		t.Helper()
		count := 0
		for _, b := range resets() {
			if fromOwnPool(b) {
				count++
			}
		}
		return count
	}
}

// fromOwnPool reports whether the source of a TCP segment over IPv4 is in ownPool.
func fromOwnPool(b []byte) bool {
	p, _ := dissect.IP(b)
	return p != nil && p.TCP != nil && p.Src.Addr().String() == lab.Gateway4 && p.Src.Port() >= 7000 && p.Src.Port() <= 8000
}
