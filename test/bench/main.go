// Command bench compares nat64d with other ways to forward packets between two networks on the same machine: the
// kernel's NAT44, its IPv6 forwarding, and Tayga. It runs in network namespaces: a client, a gateway and a server.
// The client and the server share one processor; the gateway uses another one for all its packet processing.
// Links are veth pairs, or TAP devices that resemble virtio NICs.
// docs/performance.md explains the method and shows a result. It includes the measurements of RFC 9693.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
)

// toolArgument is the first argument that makes this program act as one of its tools.
const toolArgument = "tool"

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == toolArgument {
		return runTool(os.Stdout, args[1:])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	lock, err := alone()
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	runtime.GOMAXPROCS(max(toolThreads, runtime.NumCPU())) // as in the tools: the switch of TAP links makes many system calls
	if o.profile != "" {
		return profile(ctx, o)
	}
	r, err := measure(ctx, o)
	if err != nil {
		return err
	}
	if o.json == "" {
		return r.table(os.Stdout)
	}
	if o.json == "-" {
		return r.json(os.Stdout)
	}
	f, err := os.Create(o.json)
	if err != nil {
		return err
	}
	return errors.Join(r.json(f), f.Close(), r.table(os.Stdout))
}

// options are the command-line options.
type options struct {
	effort
	quick               bool
	repetitions         int
	gateways            []gateway
	json, profile, only string
	link                string
	bin, cache          string
	endCPU, gatewayCPU  int
}

func parse(args []string) (options, error) {
	o := options{effort: thorough}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "measure for a short time only: less than two minutes in all")
	f.IntVar(&o.repetitions, "reps", 1, "how often everything is measured; the table has the medians")
	f.StringVar(&o.json, "json", "", "also write all values to this `file`; - writes them instead of the table")
	f.StringVar(&o.only, "only", "", "measure only what has this `text` in its name, such as tcp8")
	f.StringVar(&o.link, "link", linkVeth, "`kind` of the links: veth, or tap for TAP devices with NAPI and the offloads of virtio NICs")
	f.StringVar(&o.profile, "profile", "", "measure nothing, but record with perf(1) where nat64d spends its time, in this `directory`")
	f.StringVar(&o.bin, "bin", "bin", "`directory` of nat64d")
	f.StringVar(&o.cache, "cache", ".cache", "`directory` that make deps unpacks programs in")
	f.IntVar(&o.endCPU, "cpu-ends", 0, "processor of the client and the server")
	f.IntVar(&o.gatewayCPU, "cpu-gateway", 1, "processor of the gateway")
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: bench [flags] [gateway]...\n\nMeasures the named gateways, by default all of these:\n\n")
		for _, g := range gateways {
			fmt.Fprintf(f.Output(), "  %-12s  %s\n", g.name, g.explain)
		}
		fmt.Fprintf(f.Output(), "\nRatios are to the first one. Needs root. Flags:\n\n")
		f.PrintDefaults()
	}
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.quick {
		o.effort = quick
	}
	if o.repetitions < 1 {
		return o, fmt.Errorf("-reps %d: must be at least 1", o.repetitions)
	}
	if o.link != linkVeth && o.link != linkTAP {
		return o, fmt.Errorf("-link %s: must be %s or %s", o.link, linkVeth, linkTAP)
	}
	err := o.choose(f.Args())
	return o, errors.Join(err, processors(o.endCPU, o.gatewayCPU))
}

// choose selects the gateways with these names; without names all, except those that a quick run omits.
func (o *options) choose(names []string) error {
	if len(names) == 0 {
		o.gateways = slices.DeleteFunc(slices.Clone(gateways), func(g gateway) bool { return o.quick && slices.Contains(unhurried, g.name) })
	}
	for _, name := range names {
		i := slices.IndexFunc(gateways, func(g gateway) bool { return g.name == name })
		if i < 0 {
			return fmt.Errorf("gateway %q: bench -help lists the gateways", name)
		}
		o.gateways = append(o.gateways, gateways[i])
	}
	return nil
}
