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

// smallDisk mounts a file system with room for few pages, and returns its directory.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("nat64d-test", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// On a full disk, nat64ctl config set --persist changes nothing and says why, and nat64d continues although its log cannot be written.
// With room again, both work.
func TestFullDisk(t *testing.T) {
	l := network(t, lab.Options{})
	dir, socket := smallDisk(t), socketPath(t)
	logFile := filepath.Join(dir, "log")
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	file := write(t, dir, configHead(l, socket)+reloadFile(lab.Spare4, "5m")+"nat_log: { events: session }\n")
	g := launchInto(t, l, log, binaries(t).nat64d, socket, "-c", file)
	eventually(t, startWithin, "nat64d is ready", func() error {
		if out, errs, code := g.ctl("status", "-o", "json"); code != 0 || !strings.Contains(out, `"ready": true`) {
			return fmt.Errorf("%s%s", out, errs)
		}
		return nil
	})
	g.must("config", "set", "--persist", "sessions.timeouts.icmp", "70s")
	dropIn := filepath.Join(dir, "conf.d", "90-nat64ctl.yaml")
	before, err := os.ReadFile(dropIn)
	if err != nil {
		t.Fatal(err)
	}

	filler := fillDisk(t, dir)
	if _, errs, code := g.ctl("config", "set", "--persist", "sessions.timeouts.udp", "7m"); code != 1 || !strings.Contains(errs, "no space left on device") {
		t.Errorf("with a full disk: exit code %d, %q", code, errs)
	}
	if got := g.value("sessions.timeouts.udp"); got != "5m" {
		t.Errorf("the lifetime is %s although it was not persisted, want 5m", got)
	}
	entries, err := os.ReadDir(filepath.Dir(dropIn))
	if err != nil || len(entries) != 1 {
		t.Errorf("conf.d has %v (%v), want the drop-in alone", entries, err)
	}
	if after, err := os.ReadFile(dropIn); err != nil || string(after) != string(before) {
		t.Errorf("the drop-in is %q (%v), want %q", after, err, before)
	}
	sendFlows(t, l, 100) // more log than the rest of a page has room for
	eventually(t, recoverWithin, "lines of the log are lost", func() error {
		if g.linesLost() == 0 {
			return fmt.Errorf("none are; warnings %q", g.status().Warnings)
		}
		return nil
	})
	checkPing(t, l)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g.must("config", "set", "--persist", "sessions.timeouts.udp", "7m")
	eventually(t, recoverWithin, "the log reports the lost lines", func() error {
		text, err := os.ReadFile(logFile)
		if err == nil && !strings.Contains(string(text), "lines of the log were lost") {
			err = fmt.Errorf("the log is\n%s", text)
		}
		return err
	})
	g.stop()
}

// fillDisk leaves no room on a disk, and returns the file that takes it.
func fillDisk(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "filler")
	if err := os.WriteFile(path, make([]byte, 16<<20), 0o600); err == nil {
		t.Fatal("the disk has no limit")
	}
	return path
}
