package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nat64d/lab"
)

// Payloads and ports that make the build of panicky panic.
const (
	panicInWorker = "panic in a worker"
	panicLocked   = 666 // source port of a client whose new binding is made
)

// bugs are the bugs of panicky: code to insert before a line of a file.
var bugs = []struct{ file, before, code string }{
	{"gateway/path.go", "	pref, ok := pool6.Match(", `	if string(p.frame.Data[min(48, len(p.frame.Data)):]) == "` + panicInWorker + `" {
		panic("a bug in the test")
	}
`},
	{"bib/life.go", "	t.entries.Seal(slot, check(slot, &b))", fmt.Sprintf(`	if b.Client.Port == %d {
		panic("a bug in the test with a lock")
	}
`, panicLocked)},
}

// panicky builds nat64d from sources with bugs, once. The sources of the tree have no way to make it panic.
var panicky = sync.OnceValues(func() (string, error) {
	replace := map[string]string{}
	for i, b := range bugs {
		path, err := filepath.Abs(filepath.Join("..", b.file))
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		head, tail, found := strings.Cut(string(text), b.before)
		if !found {
			return "", fmt.Errorf("%s lacks %q", b.file, b.before)
		}
		replace[path] = filepath.Join(scratch, fmt.Sprintf("bug%d.go", i))
		if err := os.WriteFile(replace[path], []byte(head+b.code+b.before+tail), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	list, program := filepath.Join(scratch, "overlay.json"), filepath.Join(scratch, "nat64d-panicky")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", list, "-ldflags", "-X main.version=panicky", "-o", program, "./cmd/nat64d")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return program, nil
})

// A worker survives a panic. The second within a minute ends nat64d in order with exit code 1, and a panic with a lock ends it at
// once with exit code 3. After both, the next process continues the sessions.
func TestPanics(t *testing.T) {
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", stateDir(t))
	l := network(t, lab.Options{})
	program, err := panicky()
	if err != nil {
		t.Fatal(err)
	}
	socket := socketPath(t)
	begin := func() *daemon {
		g := launchAs(t, l, program, socket, "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", ownPool, "--handover", "10s")
		g.ready()
		return g
	}
	serveEcho(t, l)
	g := begin()
	conn, err := open(l, "tcp", 0, service)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	number := uint64(0)
	alive := func(when string) {
		t.Helper()
		if number++; exchange(conn, number) != nil {
			t.Errorf("the connection does not survive %s", when)
		}
	}

	sendOnce(t, l, 0, panicInWorker)
	eventually(t, recoverWithin, "the panic is counted", func() error {
		if s := g.status(); s.Panics != 1 || len(s.Warnings) == 0 || !strings.Contains(strings.Join(s.Warnings, "\n"), "has panicked 1 times") {
			return fmt.Errorf("%d panics, warnings %q", s.Panics, s.Warnings)
		}
		return nil
	})
	if said := g.log.String(); strings.Count(said, "a bug in the test") != 1 || !strings.Contains(said, "from6") {
		t.Error("the log must have the panic once, with its stack")
	}
	alive("a panic")

	sendOnce(t, l, 0, panicInWorker)
	if code := g.wait(); code != 1 || !strings.Contains(g.log.String(), "second panic within a minute") {
		t.Errorf("exit code %d after the second panic, want 1", code)
	}
	g = begin()
	alive("the second panic")

	sendOnce(t, l, panicLocked, "a new binding")
	if code := g.wait(); code != 3 || !strings.Contains(g.log.String(), "half changed") {
		t.Errorf("exit code %d after a panic with a lock, want 3", code)
	}
	g = begin()
	alive("a panic with a lock")
	g.stop()
}

// sendOnce sends a datagram from a port of the client; 0: any.
func sendOnce(t *testing.T, l *lab.Lab, port int, text string) {
	t.Helper()
	c, err := l.Client.DialFrom(t.Context(), net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}, "udp6", target+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}
