//go:build linux

package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nat64d/lab"
)

// restarted starts nat64d again after SIGKILL, with the same arguments.
func (g *daemon) restarted(args ...string) *daemon {
	g.t.Helper()
	g.signal(syscall.SIGKILL)
	g.wait()
	next := launch(g.t, g.lab, g.socket, args...)
	next.ready()
	return next
}

// idleConnection opens a TCP connection through the gateway to an echo server, and returns a check that it still works.
func idleConnection(t *testing.T, l *lab.Lab) (works func(when string)) {
	t.Helper()
	echoTCP(t, l.Server, lab.Server4+":5000")
	c, err := l.Client.Dial(t.Context(), "tcp6", net.JoinHostPort(lab.Server4As6, "5000"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	number := uint64(0)
	works = func(when string) {
		t.Helper()
		number++
		if err := exchange(c, number); err != nil {
			t.Errorf("%s: the connection: %v", when, err)
		}
	}
	works("before")
	return works
}

// Ranges of pool4 and static rows that were forced at run time are there again after a kill, although a program of the host has one
// of their ports, and so are the sessions, although they are more than sessions.max permits now.
func TestKillWithForcedChanges(t *testing.T) {
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", stateDir(t))
	l := network(t, lab.Options{})
	echoTCP(t, l.Gateway, lab.Gateway4+":7600")
	echoTCP(t, l.Gateway, lab.Gateway4+":7700")
	args := []string{"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", lab.Gateway4 + ":7000-7100"}
	g := launch(t, l, socketPath(t), args...)
	g.ready()
	works := idleConnection(t, l)
	g.must("pool4", "add", lab.Gateway4, "7600", "--force")
	g.must("bib", "add", "tcp", "["+lab.Client6+"]:80", lab.Gateway4+":7700", "--force")
	const most = 10
	sendFlows(t, l, 5*most)
	eventually(t, recoverWithin, "more sessions than the next start permits", func() error {
		if n := g.sessions(); n <= most {
			return fmt.Errorf("%d sessions", n)
		}
		return nil
	})
	before := g.must("pool4", "list")
	t.Setenv("NAT64D_SESSIONS_MAX", fmt.Sprint(most))
	g = g.restarted(args...)
	works("after a kill")
	if s := g.status().Kept; s.Sessions <= most || len(s.Refused) != 0 {
		t.Errorf("after a kill, with sessions.max %d: %+v", most, s)
	}
	if !strings.Contains(g.must("bib", "list"), "7700") {
		t.Error("the static row has not survived")
	}
	if after := g.must("pool4", "list"); after != before {
		t.Errorf("pool4 was\n%sand is\n%s", before, after)
	}
	g.warned("port 7600 of this host")
	g.stop()

	// A stop gives the ports back to the host, so the next start refuses those of the configuration that a program listens on.
	echoTCP(t, l.Gateway, lab.Gateway4+":7050")
	last := launch(t, l, g.socket, args...)
	if code, log := last.wait(), last.log.String(); code != 1 || !strings.Contains(log, "port 7050") || strings.Contains(log, "port 7600") {
		t.Errorf("after a stop: exit code %d, %s", code, log)
	}
}

// Sessions survive a kill although the state directory has no room for another process. That process keeps nothing, which the status
// and the log show, and the start after that one is empty and keeps its sessions again.
func TestKillWithFullStateDirectory(t *testing.T) {
	dir := smallDisk(t)
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", filepath.Join(dir, "state"))
	l := network(t, lab.Options{})
	args := []string{"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", lab.Gateway4 + ":7000-8000"}
	g := launch(t, l, socketPath(t), args...)
	g.ready()
	works := idleConnection(t, l)
	g.must("pool4", "add", lab.Spare4)
	filler := fillDisk(t, dir)
	g = g.restarted(args...)
	works("after a kill")
	if s := g.status().Kept; s.Dir != "" || s.Sessions != 1 || !strings.Contains(s.Why, "no space left on device") {
		t.Errorf("after a kill: %+v", s)
	}
	if !strings.Contains(g.must("pool4", "list"), lab.Spare4) {
		t.Error("the change of pool4 has not survived")
	}
	if log := g.log.String(); !strings.Contains(log, "cannot save the state of this process") {
		t.Errorf("the log is %s", log)
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	g = g.restarted(args...)
	if s := g.status().Kept; s.Dir == "" || s.Restored {
		t.Errorf("after another kill: %+v", s)
	}
	g.stop()
}
