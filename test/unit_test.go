package test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The exposure level that systemd-analyze calculates for the shipped unit is at most 2.5 of 10.
func TestUnitExposure(t *testing.T) {
	t.Parallel()
	analyze, env := tool(t, "systemd-analyze")
	libraries, _ := filepath.Glob(filepath.Join(cache(t), "sys/usr/lib/*-linux-gnu*/systemd")) // the pattern is well-formed
	for _, l := range libraries {
		env = append(env, "LD_LIBRARY_PATH="+l+":"+filepath.Dir(l))
	}
	cmd := exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold=25", "../deploy/systemd/nat64d.service")
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
