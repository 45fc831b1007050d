package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
)

// ipv4only64 is the answer of DNS64 about ipv4only.arpa, whatever else is configured.
const ipv4only64 = "NOERROR; ipv4only.arpa A 192.0.0.170; ipv4only.arpa A 192.0.0.171"

// alone64 returns a dns64 section of a configuration with additional keys.
func alone64(more string) string {
	return fmt.Sprintf("dns64: { listen: [\"[%s]:53\"], upstreams: [%s] %s }\n", lab.Gateway6, lab.Server4, more)
}

// startAlone runs nat64d dns64.
func startAlone(t *testing.T, l *lab.Lab, file string) (*exec.Cmd, *journal) {
	t.Helper()
	cmd, log := exec.Command(binaries(t).nat64d, "dns64", "-c", file), new(journal)
	cmd.Stdout, cmd.Stderr = log, log
	if err := l.Gateway.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // has no effect unless the process failed to end
	return cmd, log
}

// expect64 waits until the client, sending from an address of a host, gets the wanted answer.
func expect64(t *testing.T, l *lab.Lab, log *journal, as, want string) {
	t.Helper()
	eventually(t, startWithin, "DNS64 answers "+as, func() error {
		if got := ask64(t, l.Client, "+time=1", "-b", as, "@"+lab.Gateway6, "ipv4only.arpa", "A"); got != want {
			return fmt.Errorf("got %s: %s", got, log.String())
		}
		return nil
	})
}

// A default route, in any notation, does not make its hosts clients; the network of the interface has clients. This
// holds at the start and after a reload that makes routes relevant.
func TestDNS64AloneFollowsRoutes(t *testing.T) {
	l := network(t, lab.Options{})
	const stranger = "3fff::1"
	ip := func(n *lab.Namespace, args ...string) {
		t.Helper()
		if out, err := n.Output(limit(t, 10*time.Second), "ip", args...); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	ip(l.Client, "-6", "address", "add", stranger+"/128", "dev", "lo")
	ip(l.Gateway, "-6", "route", "add", "2000::/3", "via", lab.Client6, "dev", l.NIC6)
	dir, head := t.TempDir(), configHead(l, socketPath(t))
	file := write(t, dir, head+alone64(", clients: ['2001:db8:77::/64']"))
	cmd, log := startAlone(t, l, file)
	expect := func(as, want string) { t.Helper(); expect64(t, l, log, as, want) }
	reload := func(more string) {
		t.Helper()
		write(t, dir, head+alone64(more))
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	expect(lab.Client6, "REFUSED")
	reload("")
	expect(lab.Client6, ipv4only64)
	expect(stranger, "REFUSED")
	if !strings.Contains(log.String(), `msg="configuration changed" key=dns64.clients old=2001:db8:77::/64`) {
		t.Errorf("the change is not logged: %s", log.String())
	}
	if !strings.Contains(log.String(), "route=2000::/3") {
		t.Errorf("the default route is not logged: %s", log.String())
	}
	ip(l.Gateway, "-6", "route", "add", stranger+"/128", "via", lab.Client6, "dev", l.NIC6)
	expect(stranger, ipv4only64)
	reload(", open: true, clients: ['2000::/3']")
	expect(stranger, ipv4only64)
}

// DNS64 alone answers the hosts of the v6 interface, in a process without the capabilities for packets, and ends on
// SIGTERM.
func TestDNS64Alone(t *testing.T) {
	l := network(t, lab.Options{})
	socket := socketPath(t)
	file := write(t, t.TempDir(), configHead(l, socket)+alone64(""))
	cmd, log := startAlone(t, l, file)
	expect64(t, l, log, lab.Client6, ipv4only64)
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} { // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE
		if want := set + ":\t0000000000000403\n"; !strings.Contains(string(status), want) {
			t.Errorf("its capabilities are not %q:\n%s", want, status)
		}
	}
	if !strings.Contains(string(status), "NoNewPrivs:\t1\nSeccomp:\t2\n") {
		t.Errorf("it has no sandbox:\n%s", status)
	}
	if got := ask64(t, l.Server, "+time=1", "@"+lab.Gateway4, "ipv4only.arpa", "A"); got != "no answer" {
		t.Errorf("on an address without a listener: got %s", got)
	}
	if out, errs, code := nat64ctl(t, "--socket", socket, "dns64", "status"); code != 0 || !strings.Contains(out, "2001:db8:1::/64") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	for command, want := range map[string]string{"version": "\nnat64d", "stats": `nat64_dns64_queries_total{result="NOERROR",type="A"}`} {
		if out, errs, code := nat64ctl(t, "--socket", socket, command); code != 0 || !strings.Contains(out, want) {
			t.Errorf("nat64ctl %s: code %d: %s%s", command, code, out, errs)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the process ended with %v: %s", err, log.String())
		}
	case <-time.After(10 * time.Second):
		t.Errorf("the process does not end: %s", log.String())
	}
}
