package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	profileRate   = "1999" // samples per second; not a multiple of the kernel's tick rate
	profileFlood  = 3 * time.Second
	profileStream = 3 * time.Second
)

// profile records the gateway's processor while nat64d is under load, including the kernel: one file for a UDP flood
// and one for TCP streams.
func profile(ctx context.Context, o options) (err error) {
	if _, err := exec.LookPath("perf"); err != nil {
		return fmt.Errorf("perf is not installed (linux-perf in Debian): %w", err)
	}
	if err := os.MkdirAll(o.profile, 0o755); err != nil {
		return err
	}
	o.gateways, o.TCP, o.UDP = nil, profileStream, profileFlood
	if err := o.choose([]string{ours}); err != nil {
		return err
	}
	p, err := o.find()
	if err != nil {
		return err
	}
	s := &bench{o, p, &report{}, nil}
	restore := changeMachine()
	defer func() { err = errors.Join(err, restore()) }()
	loads := []workload{
		{name: "udp", run: func(ctx context.Context, t *stint) error {
			_, err := t.overload(ctx, "udp", t.order(fewFlows, 0, t.UDP))
			return errors.Join(err, t.steerEnds(ctx, true))
		}},
		{name: "tcp", run: stream("tcp", "-P8")},
	}
	return s.inBed(ctx, bout{gateway: o.gateways[0]}, func(t *stint) error {
		for _, w := range loads {
			file := filepath.Join(o.profile, w.name+".perf")
			if err := t.record(ctx, file, func() error { return w.run(ctx, t) }); err != nil {
				return err
			}
			fmt.Println(file)
		}
		return nil
	})
}

// record calls f while perf records the gateway's processor.
func (s *stint) record(ctx context.Context, file string, f func() error) error {
	perf := exec.CommandContext(ctx, "perf", "record", "-q", "-g", "-F", profileRate, "-C", strconv.Itoa(s.gateway.cpu), "-o", file)
	recorder, err := s.client.start(perf)
	if err != nil {
		return err
	}
	err = f()
	// perf writes its file on SIGINT.
	_ = recorder.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-recorder.ended:
	case <-time.After(perfEnds):
		recorder.stop()
	}
	return err
}

// perfEnds bounds the time that perf needs to write.
const perfEnds = 20 * time.Second
