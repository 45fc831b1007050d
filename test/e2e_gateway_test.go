package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// Generous limits for a healthy gateway.
const (
	startWithin   = 20 * time.Second
	stopWithin    = 10 * time.Second
	recoverWithin = 20 * time.Second
)

// The pool4 of most tests.
const (
	sparePool = lab.Spare4 + ":1024-65535" // an address that only the gateway answers for
	ownPool   = lab.Gateway4 + ":7000-8000"
)

// daemon is a nat64d that runs in the gateway namespace of a lab.
type daemon struct {
	t      *testing.T
	lab    *lab.Lab
	socket string
	cmd    *exec.Cmd
	log    journal
	ended  chan struct{} // closed when the process has ended
	file   string        // its configuration file, if started by startConfig
}

// network builds a lab and removes it after the test.
func network(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	binaries(t)
	l, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// start runs nat64d with the flags of the quick start and returns when it forwards packets.
func start(t *testing.T, l *lab.Lab, pool4 string, flags ...string) *daemon {
	t.Helper()
	args := []string{"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", pool4}
	g := launch(t, l, socketPath(t), append(args, flags...)...)
	g.ready()
	return g
}

// startConfig runs nat64d with a configuration file, to which the interfaces and the socket are added, and flags.
func startConfig(t *testing.T, l *lab.Lab, yaml string, flags ...string) *daemon {
	t.Helper()
	socket := socketPath(t)
	file := write(t, t.TempDir(), configHead(l, socket)+yaml)
	g := launch(t, l, socket, append([]string{"-c", file}, flags...)...)
	g.file = file
	g.ready()
	return g
}

// configHead is the part of a configuration file that depends on the place.
func configHead(l *lab.Lab, socket string) string {
	return fmt.Sprintf("version: 1\ninterfaces:\n  v6: { name: %s }\n  v4: { name: %s }\napi: { socket: %s }\n", l.NIC6, l.NIC4, socket)
}

// rewrite replaces the configuration file of startConfig, without a signal to the daemon.
func (g *daemon) rewrite(yaml string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(configHead(g.lab, g.socket)+yaml), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// socketPath returns a path for a unix socket. It is shorter than in t.TempDir, because the kernel limits it to 107
// bytes.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "n64-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "nat64d.sock")
}

// write writes a configuration file and returns its path.
func write(t *testing.T, dir, text string) string {
	t.Helper()
	path := filepath.Join(dir, "nat64d.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// launch starts nat64d and does not wait until it is ready.
func launch(t *testing.T, l *lab.Lab, socket string, args ...string) *daemon {
	t.Helper()
	return launchAs(t, l, binaries(t).nat64d, socket, args...)
}

// launchAs is launch for another build of nat64d.
func launchAs(t *testing.T, l *lab.Lab, program, socket string, args ...string) *daemon {
	t.Helper()
	return launchInto(t, l, nil, program, socket, args...)
}

// launchInto is launchAs for a nat64d that logs to a file.
func launchInto(t *testing.T, l *lab.Lab, log *os.File, program, socket string, args ...string) *daemon {
	t.Helper()
	g := &daemon{t: t, lab: l, socket: socket, ended: make(chan struct{})}
	if args[0] != "-c" {
		args = append(args, "--socket", socket)
	}
	g.cmd = exec.Command(program, args...)
	g.cmd.Stdout, g.cmd.Stderr = &g.log, &g.log
	if log != nil {
		g.cmd.Stderr = log
	}
	if err := l.Gateway.Start(g.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = g.cmd.Wait() // ProcessState contains the result
		close(g.ended)
	}()
	t.Cleanup(func() {
		if !g.over() {
			g.signal(syscall.SIGTERM)
			g.wait()
		}
		if t.Failed() {
			t.Logf("log of nat64d:\n%s", g.log.String())
		}
	})
	return g
}

// ready waits until the log and the status report that packets are forwarded.
func (g *daemon) ready() {
	g.t.Helper()
	eventually(g.t, startWithin, "nat64d is ready", func() error {
		if g.over() {
			g.t.Fatalf("nat64d ended with code %d:\n%s", g.cmd.ProcessState.ExitCode(), g.log.String())
		}
		if !strings.Contains(g.log.String(), "msg=ready") {
			return errors.New("no such log line")
		}
		return nil
	})
	if s := g.status(); !s.Ready {
		g.t.Fatalf("the log says ready, but the status is %q", s.NotReady)
	}
}

func (g *daemon) over() bool {
	select {
	case <-g.ended:
		return true
	default:
		return false
	}
}

func (g *daemon) signal(s syscall.Signal) {
	g.t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		g.t.Errorf("signal %v: %v", s, err)
	}
}

// wait returns the exit code, -1 after a signal.
func (g *daemon) wait() int {
	g.t.Helper()
	select {
	case <-g.ended:
	case <-time.After(stopWithin):
		g.t.Errorf("nat64d did not end within %v", stopWithin)
		g.signal(syscall.SIGQUIT) // makes it log its goroutines
		<-g.ended
	}
	return g.cmd.ProcessState.ExitCode()
}

// stop ends nat64d like an operator, and checks that it has logged no errors.
func (g *daemon) stop() {
	g.t.Helper()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		g.t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	g.noErrors()
}

// noErrors checks that nat64d has logged no errors.
func (g *daemon) noErrors() {
	g.t.Helper()
	for line := range strings.Lines(g.log.String()) {
		if strings.Contains(line, "level=ERROR") {
			g.t.Errorf("unexpected log line: %s", line)
		}
	}
}

// ctl runs nat64ctl and returns its output and its exit code.
func (g *daemon) ctl(args ...string) (stdout, stderr string, code int) {
	g.t.Helper()
	return nat64ctl(g.t, append([]string{"--socket", g.socket}, args...)...)
}

func nat64ctl(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binaries(t).nat64ctl, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// must runs nat64ctl and fails the test if it fails.
func (g *daemon) must(args ...string) string {
	g.t.Helper()
	out, errs, code := g.ctl(args...)
	if code != 0 {
		g.t.Fatalf("nat64ctl %s: exit code %d: %s", strings.Join(args, " "), code, errs)
	}
	return out
}

// decode decodes the output of nat64ctl -o json.
func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func (g *daemon) status() (s control.Status) {
	g.t.Helper()
	decode(g.t, g.must("status", "-o", "json"), &s)
	return s
}

// sessions returns the number of sessions of all protocols.
func (g *daemon) sessions() int {
	g.t.Helper()
	n := 0
	for _, p := range g.status().Protocols {
		n += p.Sessions
	}
	return n
}

// expectSessions returns nil if there is a session of a protocol with a peer.
func (g *daemon) expectSessions(proto, peer string) error {
	g.t.Helper()
	for _, s := range g.listSessions() {
		if s.Protocol == proto && s.Peer.String() == peer {
			return nil
		}
	}
	return fmt.Errorf("no %s session with %s", proto, peer)
}

// expectClient returns nil if there is a session from a port of a client.
func (g *daemon) expectClient(port uint16) error {
	g.t.Helper()
	for _, s := range g.listSessions() {
		if s.Client.Port() == port {
			return nil
		}
	}
	return fmt.Errorf("no session from port %d", port)
}

func (g *daemon) listSessions() (all []control.Session) {
	g.t.Helper()
	decode(g.t, g.must("session", "list", "-o", "json"), &all)
	return all
}

// dropped returns the packets of both directions that were dropped for a reason, or left to the host.
func (g *daemon) dropped(reason string) (n uint64) {
	g.t.Helper()
	var all []control.Counter
	decode(g.t, g.must("stats", "--all", "-o", "json"), &all)
	known := false
	for _, c := range all {
		if c.Labels["reason"] == reason && c.Labels["direction"] != "" {
			known = true
			n += c.Value
		}
	}
	if !known {
		g.t.Fatalf("no counter for drop reason %s among %d", reason, len(all))
	}
	return n
}

// tables lists the nftables tables of the gateway.
func tables(t *testing.T, l *lab.Lab) []string {
	t.Helper()
	path, _ := tool(t, "nft")
	out, err := l.Gateway.Output(limit(t, 10*time.Second), path, "list", "tables")
	if err != nil {
		t.Fatalf("nft list tables: %v: %s", err, out)
	}
	return strings.Split(strings.TrimSpace(out), "\n")[:strings.Count(out, "\n")]
}

// eventually polls a condition until it holds, and fails the test after a time.
func eventually(t *testing.T, within time.Duration, what string, condition func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = condition(); err == nil {
			return
		}
	}
	t.Fatalf("not within %v: %s: %v", within, what, err)
}

// limit returns a context that ends with the test or after a time.
func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// journal collects the output of a process. It is safe for concurrent use.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
