package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nat64d/lab"
)

// expectRefusal runs nat64d by a shell command, in which $0 is the program, and expects that it ends with a sentence.
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

// What the process may not do, or may not have, is refused with a sentence that names the way out.
func TestProcessLimitsAreExplained(t *testing.T) {
	l := network(t, lab.Options{})
	program := binaries(t).nat64d
	for _, kib := range []int{1_000_000, 1_800_000} {
		expectRefusal(t, l, fmt.Sprintf("%d KiB of address space", kib), fmt.Sprintf("ulimit -v %d; exec $0", kib), program, "sessions.max", "ulimit -v")
	}
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "n64-") // unlike those of t.TempDir, its parents are open to everybody
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
