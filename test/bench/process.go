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
	endWithin = 2 * time.Second // for a process after SIGTERM
	pipesOpen = time.Second     // after the end of a process whose children keep its output open
)

// anyCPU is the processor of a place whose programs are not pinned.
const anyCPU = -1

// place is a namespace and the processor to which its programs are pinned.
type place struct {
	*lab.Namespace
	cpu int
}

// launch starts a command here. It runs in a separate process group, so that Ctrl-C on the terminal reaches only this
// program, and it is killed when this program dies.
func (p place) launch(cmd *exec.Cmd) error {
	cmd.WaitDelay = pipesOpen
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return p.Do(func() error { return pinned(p.cpu, cmd.Start) })
}

// pinned calls f on this thread, restricted to one processor. Threads and processes that f starts inherit the
// restriction.
func pinned(cpu int, f func() error) error {
	if cpu == anyCPU {
		return f()
	}
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

// run runs a command here and returns its output.
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

// do runs commands here, one per line, and stops at the first failure.
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

// nft runs nft(8) with a script.
func (p place) nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	_, err := p.run(ctx, cmd)
	return err
}

// process is a program that runs until it is stopped.
type process struct {
	cmd   *exec.Cmd
	log   bytes.Buffer  // its output; may be read after it has ended
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
		_ = cmd.Wait() // stopped by us, or reported by over
		close(s.ended)
	}()
	return s, nil
}

// over returns an error with the program's output if it has ended.
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

// resident returns the resident memory of the program in bytes.
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

// answer is the result of a tool that runs concurrently.
type answer[R any] struct {
	result R
	err    error
}

// callBeside runs a tool concurrently.
func callBeside[R any](ctx context.Context, p place, name string, order any) <-chan answer[R] {
	return concurrently(func() (R, error) { return call[R](ctx, p, name, order) })
}

// concurrently calls f in a goroutine. The channel has room for the answer.
func concurrently[R any](f func() (R, error)) <-chan answer[R] {
	done := make(chan answer[R], 1)
	go func() {
		r, err := f()
		done <- answer[R]{r, err}
	}()
	return done
}
