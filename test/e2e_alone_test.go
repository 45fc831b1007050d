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

// DNS64 alone answers those behind the v6 interface, in a process that could not touch a packet, and stops when it is told.
func TestDNS64Alone(t *testing.T) {
	l := network(t, lab.Options{})
	socket := socketPath(t)
	file := write(t, t.TempDir(), configHead(l, socket)+fmt.Sprintf("dns64: { listen: [\"[%s]:53\"], upstreams: [%s] }\n", lab.Gateway6, lab.Server4))
	cmd := exec.Command(binaries(t).nat64d, "dns64", "-c", file)
	var log journal
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := l.Gateway.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, unless something is wrong
	eventually(t, startWithin, "DNS64 answers", func() error {
		if got := ask64(t, l.Client, "+time=1", "@"+lab.Gateway6, "ipv4only.arpa", "A"); got != "NOERROR; ipv4only.arpa A 192.0.0.170; ipv4only.arpa A 192.0.0.171" {
			return fmt.Errorf("got %s: %s", got, log.String())
		}
		return nil
	})
	status, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapBnd"} { // CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_NET_BIND_SERVICE
		if want := set + ":\t0000000000000403\n"; !strings.Contains(string(status), want) {
			t.Errorf("its capabilities are not %q:\n%s", want, status)
		}
	}
	if got := ask64(t, l.Server, "+time=1", "@"+lab.Gateway4, "ipv4only.arpa", "A"); got != "no answer" {
		t.Errorf("where it does not listen: got %s", got)
	}
	if out, errs, code := nat64ctl(t, "--socket", socket, "dns64", "status"); code != 0 || !strings.Contains(out, "2001:db8:1::/64") {
		t.Errorf("code %d: %s%s", code, out, errs)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("it ended with %v: %s", err, log.String())
		}
	case <-time.After(10 * time.Second):
		t.Errorf("it does not stop: %s", log.String())
	}
}
