package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

const (
	endWithin = 2 * time.Second // of a process that was asked to
	pipesOpen = time.Second     // after the end of a process whose children hold its output
)

// place is a namespace and the processor that what runs there is pinned to.
type place struct {
	*lab.Namespace
	cpu int
}

// launch starts a command here. It has a process group of its own, so that Ctrl-C on the terminal leaves its end to us, and
// it does not outlive this program.
func (p place) launch(cmd *exec.Cmd) error {
	cmd.WaitDelay = pipesOpen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return p.Do(func() error { return pinned(p.cpu, cmd.Start) })
}

// pinned calls f on this thread while it may run on one processor only. What f starts inherits that.
func pinned(cpu int, f func() error) error {
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return os.NewSyscallError("sched_getaffinity", err)
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		return fmt.Errorf("processor %d: %w", cpu, err)
	}
	return errors.Join(f(), unix.SchedSetaffinity(0, &before))
}

// run runs a command here and returns what it printed.
func (p place) run(ctx context.Context, cmd *exec.Cmd) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := p.launch(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.Bytes(), nil
}

// do runs commands here, a line each, and stops at the first one that fails.
func (p place) do(ctx context.Context, lines string) error {
	for line := range strings.Lines(lines) {
		if words := strings.Fields(line); len(words) > 0 {
			if _, err := p.run(ctx, exec.CommandContext(ctx, words[0], words[1:]...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// nft gives nft(8) a script.
func (p place) nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	_, err := p.run(ctx, cmd)
	return err
}

// process is a program that runs until it is stopped.
type process struct {
	cmd   *exec.Cmd
	log   bytes.Buffer  // what it printed; only to be read once it has ended
	ended chan struct{} // closed when it has ended
}

// start starts a program here.
func (p place) start(cmd *exec.Cmd) (*process, error) {
	s := &process{cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &s.log, &s.log
	if err := p.launch(cmd); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // stopped by us, or seen by over
		close(s.ended)
	}()
	return s, nil
}

// over returns what the program said, if it has ended by itself.
func (s *process) over() error {
	select {
	case <-s.ended:
		return fmt.Errorf("%s ended: %s", s.cmd.Path, s.log.Bytes())
	default:
		return nil
	}
}

func (s *process) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-s.ended:
	case <-time.After(endWithin):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

// resident returns the memory that the program holds, in bytes.
func (s *process) resident() int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(s.cmd.Process.Pid) + "/statm")
	if f := strings.Fields(string(b)); err == nil && len(f) > 1 {
		pages, _ := strconv.Atoi(f[1]) // the kernel writes numbers
		return pages * os.Getpagesize()
	}
	return 0
}

// tool returns the command of one of this program's tools.
func tool(ctx context.Context, name string, order any) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(order)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, self, toolArgument, name, string(text)), nil
}

// call runs a tool here to its end and returns its result.
func call[R any](ctx context.Context, p place, name string, order any) (r R, err error) {
	cmd, err := tool(ctx, name, order)
	if err != nil {
		return r, err
	}
	out, err := p.run(ctx, cmd)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// answer is the result of a tool that runs beside others.
type answer[R any] struct {
	result R
	err    error
}

// callBeside runs a tool while its caller does something else. The channel has room for the answer.
func callBeside[R any](ctx context.Context, p place, name string, order any) <-chan answer[R] {
	done := make(chan answer[R], 1)
	go func() {
		r, err := call[R](ctx, p, name, order)
		done <- answer[R]{r, err}
	}()
	return done
}
