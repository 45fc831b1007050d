package test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// The benchmark of DNS64 completes, with three servers.
func TestBenchDNS(t *testing.T) {
	cmd := exec.CommandContext(limit(t, 2*time.Minute), "../scripts/bench-dns", filepath.Dir(binaries(t).nat64d), cache(t))
	cmd.Env = append(cmd.Environ(), "ROUNDS=1", "SECONDS_EACH=1", "RATE=1000", "UNKNOWN=500")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	medians := regexp.MustCompile(`(?m)^(nat64d|BIND|Unbound) +[1-9]\d* +[1-9]\d* +\d+\.\d+ ms$`).FindAll(out, -1)
	if len(medians) != 6 { // a round, and the medians
		t.Errorf("it prints\n%s", out)
	}
}
