//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// Limits for the gateway of the demonstration.
const (
	gatewayStart = 15 * time.Second // until it is ready
	gatewayStop  = 10 * time.Second // from SIGTERM to its end
	gatewayWords = 12               // number of retained log lines
)

// gatewayProcess is a nat64d that runs as the gateway in the lab.
type gatewayProcess struct {
	socket string
	client *control.Client
	log    *tail
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has ended; err then contains its exit status
	err    error
}

// startGateway starts a nat64d as the gateway, with a configuration and further flags. Its files are in dir. It runs in
// a separate process group, so that Ctrl-C on the terminal does not reach it, and it is killed when this process dies.
func startGateway(program string, at *lab.Namespace, dir, config string, flags ...string) (*gatewayProcess, error) {
	socket := filepath.Join(dir, "sock")
	g := &gatewayProcess{
		socket: socket,
		client: &control.Client{Socket: socket},
		log:    &tail{keep: gatewayWords},
		ended:  make(chan struct{}),
	}
	file := filepath.Join(dir, "nat64d.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	g.cmd = exec.Command(program, append([]string{"-c", file, "--socket", socket}, flags...)...)
	g.cmd.Stderr = g.log
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := at.Start(g.cmd); err != nil {
		return nil, err
	}
	go func() { g.err = g.cmd.Wait(); close(g.ended) }()
	return g, nil
}

// wait returns when the gateway is ready.
func (g *gatewayProcess) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayStart)
	defer cancel()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		if s, ok := g.status(ctx); ok && s.Ready {
			return nil
		}
		select {
		case <-g.ended:
			return fmt.Errorf("nat64d ended: %v", g.err)
		case <-ctx.Done():
			return fmt.Errorf("nat64d is not ready: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// status requests the figures of the picture from the gateway, if it runs.
func (g *gatewayProcess) status(ctx context.Context) (control.Status, bool) {
	if g == nil {
		return control.Status{}, false
	}
	s, err := g.client.Status(ctx)
	return s, err == nil
}

// stop ends the gateway like an operator, and expects a clean exit. If it has already ended, another step has
// reported that.
func (g *gatewayProcess) stop() error {
	select {
	case <-g.ended:
		return nil
	default:
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("demo: stop nat64d: %w", err)
	}
	select {
	case <-g.ended:
	case <-time.After(gatewayStop):
		_ = g.cmd.Process.Kill() // Wait follows
		<-g.ended
	}
	if g.err != nil {
		return fmt.Errorf("demo: nat64d did not stop cleanly: %w%s", g.err, g.lastWords())
	}
	return nil
}

// kill ends the gateway without a chance to clean up.
func (g *gatewayProcess) kill() error {
	if err := g.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill nat64d: %w", err)
	}
	<-g.ended
	return nil
}

// lastWords returns the end of the gateway's log, to append to an error.
func (g *gatewayProcess) lastWords() string {
	if g == nil {
		return ""
	}
	text := g.log.String()
	if text == "" {
		return ""
	}
	return "\nthe end of its log:\n" + text
}

// tables returns the first bindings and sessions in the format of nat64ctl.
func (g *gatewayProcess) tables(ctx context.Context, rows int) ([]string, error) {
	out := []string{"", "$ nat64ctl bib list"}
	n := 0
	err := g.client.Bindings(ctx, control.Filter{Limit: rows}, func(b control.Binding) error {
		n++
		out = append(out, fmt.Sprintf("  %-4s %-24s %s", b.Protocol, b.Client, b.Mapped))
		return nil
	})
	if err != nil {
		return nil, err
	}
	out = append(out, "", "$ nat64ctl session list")
	err = g.client.Sessions(ctx, control.Filter{Limit: rows}, func(s control.Session) error {
		n++
		row := fmt.Sprintf("  %-4s %-24s %-17s %-16s %s", s.Protocol, s.Client, s.Mapped, s.Peer, s.State)
		out = append(out, strings.TrimRight(row, " "))
		return nil
	})
	if err == nil && n == 0 {
		err = errors.New("the listing is empty in spite of the traffic")
	}
	return out, err
}

// tail keeps the last lines that are written to it.
type tail struct {
	keep int

	mu    sync.Mutex
	lines []string
}

// Write accepts whole lines, as log handlers write them.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	t.lines = t.lines[max(0, len(t.lines)-t.keep):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
