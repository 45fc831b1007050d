package test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// The daemon feeds the watchdog of its service manager, and stops when its control socket no longer answers.
func TestWatchdogIsFedWhileControlAnswers(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "600000")
	g := start(t, network(t, lab.Options{}), sparePool)
	fed := func(within time.Duration) error {
		buf := make([]byte, 1024)
		_ = manager.SetReadDeadline(time.Now().Add(within))
		for {
			n, err := manager.Read(buf)
			if err != nil || string(buf[:n]) == "WATCHDOG=1" {
				return err
			}
		}
	}
	for range 3 {
		if err := fed(5 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(g.socket, g.socket+".away"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 5*time.Second, "the watchdog is not fed any more", func() error {
		if err := fed(time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("still fed, %v", err)
		}
		return nil
	})
	if err := os.Rename(g.socket+".away", g.socket); err != nil {
		t.Fatal(err)
	}
	if err := fed(5 * time.Second); err != nil {
		t.Errorf("not fed again: %v", err)
	}
	if !strings.Contains(g.log.String(), "not feeding the watchdog") {
		t.Error("the log does not tell that")
	}
}

// Each part that health examines has its line, and the exit code is 1 if one fails.
func TestHealthShowsChecks(t *testing.T) {
	g := start(t, network(t, lab.Options{}), sparePool)
	out, _, code := g.ctl("health")
	for _, part := range []string{"ready", "ok    data path", "ok    routes", "ok    guard", "ok    workers", "ok    self-test"} {
		if !strings.Contains(out, part+"\n") {
			t.Errorf("no line %q in %q", part, out)
		}
	}
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	g.must("pool4", "flush", "--yes")
	if out, _, code := g.ctl("health"); code != 1 || !strings.Contains(out, "FAIL  data path: pool4 has no address") {
		t.Errorf("exit code %d, %q", code, out)
	}
	if out, _, code := g.ctl("health", "-o", "json"); code != 1 || !strings.Contains(out, `"checks"`) {
		t.Errorf("exit code %d, %q", code, out)
	}
}
