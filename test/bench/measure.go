package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// bench is a run of this program.
type bench struct {
	options
	programs programs
	report   *report
	progress *progress
}

// bout is one gateway in a new network, with its measurements.
type bout struct {
	gateway   gateway
	offload   offload
	workloads []workload
	once      bool // only in the first repetition
}

// name returns the name of the bout for progress messages.
func (b bout) name() string { return b.offload.prefix() + b.gateway.name }

// bouts returns the bouts of one repetition.
func (o options) bouts() (all []bout) {
	add := func(g gateway, f offload, from []workload) {
		var chosen []workload
		for _, w := range from {
			if w.with(f) && strings.Contains(w.name, o.only) {
				chosen = append(chosen, w)
			}
		}
		if len(chosen) > 0 {
			all = append(all, bout{gateway: g, offload: f, workloads: chosen})
		}
	}
	for _, g := range o.gateways {
		for _, f := range []offload{offloadNone, offloadNIC, offloadAll} {
			add(g, f, workloads)
		}
		if g.name == ours {
			add(g, offloadNone, rfc9693)
			if !o.quick {
				add(g, offloadNone, observed)
			}
		}
		if n := len(all); o.SmallPool > 0 && (g.name == ours || g.name == nat44) {
			add(g, offloadNone, smallPool)
			for i := range all[n:] {
				all[n+i].once = true
			}
		}
	}
	return all
}

// measure makes all measurements and restores the machine.
func measure(ctx context.Context, o options) (r *report, err error) {
	p, err := o.find()
	if err != nil {
		return nil, err
	}
	bouts := o.bouts()
	steps := 0
	for _, b := range bouts {
		if b.once {
			steps += len(b.workloads)
		} else {
			steps += o.repetitions * len(b.workloads)
		}
	}
	s := &bench{o, p, &report{Machine: describe(ctx, p.nat64d), Link: o.link, Quick: o.quick, Repetitions: o.repetitions}, newProgress(steps)}
	for _, g := range o.gateways {
		s.report.Gateways = append(s.report.Gateways, g.name)
	}
	restore := changeMachine()
	defer func() {
		s.progress.end()
		err = errors.Join(err, restore())
	}()
	for i := range o.repetitions {
		for _, b := range bouts {
			if b.once && i > 0 {
				continue
			}
			if err := s.run(ctx, b); err != nil {
				return nil, err
			}
		}
	}
	return s.report, nil
}

// find looks for the programs that the gateways and the measurements need.
func (o options) find() (p programs, err error) {
	if err := installed(); err != nil {
		return p, err
	}
	if p.iperf, err = find("iperf3", o.cache); err != nil {
		return p, err
	}
	chosen := func(name string) bool {
		return slices.ContainsFunc(o.gateways, func(g gateway) bool { return g.name == name })
	}
	if chosen("tayga-apt") {
		if p.tayga, err = find("tayga", o.cache); err != nil {
			return p, err
		}
	}
	p.nat64d.path, err = filepath.Abs(filepath.Join(o.bin, "nat64d"))
	p.nat64ctl.path = filepath.Join(filepath.Dir(p.nat64d.path), "nat64ctl")
	if err == nil && slices.ContainsFunc(o.gateways, func(g gateway) bool { return strings.HasPrefix(g.name, ours) }) {
		_, err = os.Stat(p.nat64d.path)
	}
	return p, err
}

// run makes the measurements of a bout. It reports those that fail; an error ends the whole run.
func (s *bench) run(ctx context.Context, b bout) (err error) {
	return s.inBed(ctx, b, func(t *stint) error {
		for _, w := range b.workloads {
			s.progress.step(b.name(), w.name)
			if err := w.run(ctx, t); err != nil {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				s.report.fail(b.name(), w.name, errors.Join(err, t.died()))
			}
		}
		return nil
	})
}

// inBed calls f with the gateway of a bout in a network, and removes both.
func (s *bench) inBed(ctx context.Context, b bout, f func(*stint) error) (err error) {
	dir, err := os.MkdirTemp("", "nat64d-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	bed, err := newBed(ctx, s.link, b.offload, s.endCPU, s.gatewayCPU, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	if err := b.gateway.start(ctx, bed, s.programs); err != nil {
		return fmt.Errorf("%s: %w", b.gateway.name, errors.Join(err, bed.died()))
	}
	if err := bed.serve(ctx, s.programs.iperf); err != nil {
		return fmt.Errorf("%s: %w", b.gateway.name, err)
	}
	return f(&stint{bed, s.effort, s.programs, func(name string, value float64) { s.report.put(b.gateway.name, name, value) }})
}
