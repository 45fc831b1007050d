package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// expectRefusal runs nat64d by a shell command, in which $0 is the program, and expects it to end with an error
// message.
func expectRefusal(t *testing.T, l *lab.Lab, name, command, program string, want ...string) {
	t.Helper()
	flags := fmt.Sprintf(" --v6 %s --v4 %s --pool6 %s --pool4 %s --socket %s", l.NIC6, l.NIC4, lab.Prefix6, ownPool, socketPath(t))
	g := launchAs(t, l, "/bin/sh", "", "-c", command+flags, program)
	if code := g.wait(); code != 1 {
		t.Errorf("%s: exit code %d, want 1", name, code)
	}
	said := g.log.String()
	for _, w := range want {
		if !strings.Contains(said, w) {
			t.Errorf("%s: it says %q, which lacks %q", name, said, w)
		}
	}
	if strings.Contains(said, "goroutine ") {
		t.Errorf("%s: it panicked: %.2000s", name, said)
	}
}

// nat64d explains missing privileges and insufficient memory with an error that names the remedy.
func TestProcessLimitsAreExplained(t *testing.T) {
	l := network(t, lab.Options{})
	program := binaries(t).nat64d
	// How much address space Go's runtime reserves, and so what is refused first, depends on the machine and the limit.
	for kib, want := range map[int]string{1_000_000: "", 1_350_000: "", 1_800_000: "sessions.max"} {
		expectRefusal(t, l, fmt.Sprintf("%d KiB of address space", kib), fmt.Sprintf("ulimit -v %d; exec $0", kib), program, "ulimit -v", want)
	}
	small := write(t, t.TempDir(), "sessions: { max: 10000 }\n")
	for _, kib := range []int{1_350_000, 1_450_000} { // tables of this size use Go's own memory
		expectRefusal(t, l, fmt.Sprintf("%d KiB for small tables", kib), fmt.Sprintf("ulimit -v %d; exec $0 -c %s", kib, small), program, "ulimit -v")
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "n64-") // unlike those of t.TempDir, its parents are accessible to all users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	everybody := filepath.Join(dir, "nat64d")
	if err := os.WriteFile(everybody, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	unprivileged := "exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all $0"
	expectRefusal(t, l, "no privileges", unprivileged, everybody, "CAP_NET_RAW", "CAP_NET_ADMIN", "sudo", "nat64d.service")
	if got := tables(t, l); len(got) != 0 {
		t.Errorf("nftables tables are left: %q", got)
	}
}

// limitAddressSpace limits the address space of a process to more bytes than it has, and returns a function that
// removes the limit.
func limitAddressSpace(t *testing.T, pid int, more uint64) (lift func()) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		t.Fatal(err)
	}
	set := func(n uint64) {
		t.Helper()
		if err := unix.Prlimit(pid, unix.RLIMIT_AS, &unix.Rlimit{Cur: n, Max: unix.RLIM_INFINITY}, nil); err != nil {
			t.Fatal(err)
		}
	}
	set(pages*uint64(os.Getpagesize()) + more)
	return func() { set(unix.RLIM_INFINITY) }
}

// A running gateway refuses settings whose tables do not fit into memory, however they are set, and changes nothing.
func TestChangeBeyondMemoryIsRefused(t *testing.T) {
	l := network(t, lab.Options{})
	pool := "pool4: [{ address: 198.51.100.7, ports: 7000-7999 }]\n"
	g := startConfig(t, l, pool+"sessions: { max_bindings_per_client: 0, timeouts: { udp: 10m } }")
	lift := limitAddressSpace(t, g.cmd.Process.Pid, 200<<20)
	for _, key := range []string{"sessions.max_per_client", "sessions.max_bindings_per_client", "sessions.new_per_second", "filtering.mode"} {
		old, value := g.value(key), "100"
		if key == "filtering.mode" {
			value = "address_dependent"
		}
		_, errs, code := g.ctl("config", "set", key, value)
		if code != 1 || !strings.Contains(errs, "sessions.max") || !strings.Contains(errs, "ulimit -v") {
			t.Errorf("config set %s %s: exit code %d, and it says %q", key, value, code, errs)
		}
		if got := g.value(key); got != old {
			t.Errorf("%s is %s after a change that was refused, want %s", key, got, old)
		}
	}
	checkBadReload(t, g, pool+"sessions: { max_bindings_per_client: 0, max_per_client: 100, timeouts: { udp: 15m } }", "sessions.max")
	lift()
	g.must("config", "set", "filtering.mode", "address_dependent")
	g.must("config", "set", "sessions.max_per_client", "100")
	if got := g.value("sessions.max_per_client"); got != "100" {
		t.Errorf("with enough memory sessions.max_per_client is %s, want 100", got)
	}
	serveEcho(t, l)
	c, err := open(l, "tcp", 0, service)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
