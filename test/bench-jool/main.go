//go:build linux

// Command bench-jool measures Jool, the kernel's NAT44 and nat64d in the same guest, and writes the table of docs/jool.md. It
// counts the instructions that the guest executes, which do not depend on the speed of the machine or on its other load.
// docs/jool.md explains the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"nat64d/test/guest"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-jool:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Print(r.markdown())
	if o.page == "" {
		return nil
	}
	return writePage(o.page, r.markdown())
}

// options are the command-line options.
type options struct {
	dir, bin, page, only, version string
	repetitions                   int
	gateways                      []gateway
}

func parseFlags(args []string) (options, error) {
	o := options{}
	f := flag.NewFlagSet("bench-jool", flag.ContinueOnError)
	f.StringVar(&o.dir, "guest", ".cache/guest", "`directory` in which scripts/guest has built the guest")
	f.StringVar(&o.bin, "bin", "bin", "`directory` of nat64d and nat64ctl")
	f.StringVar(&o.page, "page", "", "also write the table into this `file`, between its marks")
	f.StringVar(&o.only, "only", "", "measure only what has this `text` in its name")
	f.StringVar(&o.version, "version", "", "of nat64d, for the table")
	f.IntVar(&o.repetitions, "reps", 3, "how often everything is measured; the table has the medians")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: bench-jool [flags] [gateway]...\n\nMeasures the named gateways, by default all of these:\n\n")
		for _, g := range gateways {
			fmt.Fprintf(f.Output(), "  %-14s  %s\n", g.name, g.explain)
		}
		fmt.Fprintf(f.Output(), "\nNeeds root. Flags:\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.repetitions < 1 {
		return o, fmt.Errorf("-reps %d: must be at least 1", o.repetitions)
	}
	return o, o.choose(f.Args())
}

// choose selects the gateways with these names, or all.
func (o *options) choose(names []string) error {
	if len(names) == 0 {
		o.gateways = gateways
	}
	for _, name := range names {
		i := slices.IndexFunc(gateways, func(g gateway) bool { return g.name == name })
		if i < 0 {
			return fmt.Errorf("gateway %q: bench-jool -help lists the gateways", name)
		}
		o.gateways = append(o.gateways, gateways[i])
	}
	return nil
}

// measure boots the guest and measures all gateways in it, one after the other.
func measure(ctx context.Context, o options) (r *report, err error) {
	g, err := guest.Start(ctx, guest.Options{Dir: o.dir, Count: true, Files: map[string]string{
		"/usr/local/sbin/nat64d":   filepath.Join(o.bin, "nat64d"),
		"/usr/local/sbin/nat64ctl": filepath.Join(o.bin, "nat64ctl"),
	}})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	b, err := newBed(ctx, g)
	if err != nil {
		return nil, err
	}
	r = &report{repetitions: o.repetitions, gateways: o.gateways}
	if r.versions, err = versions(ctx, g, o.version); err != nil {
		return nil, err
	}
	for range o.repetitions {
		for _, gw := range o.gateways {
			if err := b.measure(ctx, r, gw, o.only); err != nil {
				return nil, fmt.Errorf("%s: %w", gw.name, err)
			}
		}
	}
	return r, nil
}

// versions names the programs of the table.
func versions(ctx context.Context, g *guest.Guest, ours string) (string, error) {
	out, err := g.Run(ctx, `uname -r; awk '$1 == "jool-dkms" || $1 == "qemu-system-x86" { print $2 }' /versions`)
	if err != nil {
		return "", err
	}
	lines := strings.Fields(out)
	if len(lines) != 3 {
		return "", fmt.Errorf("versions in the guest: %q: must be those of the kernel, Jool and QEMU", out)
	}
	return fmt.Sprintf("Linux %s, Jool %s, nat64d %s, QEMU %s", lines[0], lines[1], ours, lines[2]), nil
}
