package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"nat64d/ops/control"
)

func newCapture(a *app) *cobra.Command {
	var flags traceFlags
	var file string
	var snap int
	c := &cobra.Command{
		Use:   "capture -w FILE|-",
		Short: "write packets of both sides to a pcapng file",
		Long: `Write packets to a pcapng file, until Ctrl-C or --limit: as they arrived and as they left, each side an interface of the file, each
packet with a comment: direction, session and, if it was dropped, the reason. "-" is the standard output, for a pipe. The packets begin with
their IP header. Those that nat64d leaves to the host are captured if a flag names an address, a port or the reason. Capturing needs the
right to change nat64d, because packets contain what their users send.`,
		Example: `  nat64ctl capture -w problem.pcapng --client 2001:db8::8
  nat64ctl capture -w - --drops | wireshark -k -i -`,
		Args: none,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := flags.filter(c)
			switch {
			case err != nil:
				return err
			case file == "":
				return usageError{errors.New(`the file is missing: add -w FILE, or -w - for a pipe`), c.CommandPath()}
			case snap < 0:
				return usageError{fmt.Errorf("--snap %d must not be negative", snap), c.CommandPath()}
			case file == "-" && isTerminal(a.out):
				return usageError{errors.New("packets would be written to the terminal: use a pipe, as in nat64ctl capture -w - | wireshark -k -i -, or -w FILE"), c.CommandPath()}
			}
			f.Snap = snap
			return a.capture(c, f, file)
		},
	}
	flags.add(c)
	c.Flags().StringVarP(&file, "write", "w", "", "file to write; -: standard output")
	c.Flags().IntVar(&snap, "snap", 0, "bytes of each packet to write at most; 0: all")
	_ = c.MarkFlagFilename("write", "pcapng") // the flag exists
	return c
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// capture writes packets to a file, and reports on stderr how many.
func (a *app) capture(c *cobra.Command, f control.TraceFilter, file string) (err error) {
	out := a.out
	if file != "-" {
		created := &lateFile{path: file}
		defer func() { err = errors.Join(err, created.close()) }()
		out = created
	}
	p := &pcapng{w: out}
	err = a.client().Capture(c.Context(), f, p.start, p.packet, p.missed)
	if errors.Is(err, context.Canceled) {
		err = nil // Ctrl-C is how a capture ends
	}
	if err != nil && p.packets == 0 {
		return err
	}
	fmt.Fprintf(a.err, "nat64ctl: captured %s", count(p.packets, "packet"))
	if p.lost > 0 {
		fmt.Fprintf(a.err, ", %s left out: they came faster than they could be written; use a narrower filter or --snap", count(p.lost, "packet"))
	}
	fmt.Fprintln(a.err)
	return err
}

// lateFile is a file that the first write creates or replaces, so that a refused capture leaves the file of an earlier one.
type lateFile struct {
	path string
	file *os.File
}

// Write implements io.Writer.
func (l *lateFile) Write(b []byte) (n int, err error) {
	if l.file == nil {
		// Packets contain what their users send: only the owner may read the file.
		if l.file, err = os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return 0, err
		}
	}
	return l.file.Write(b)
}

func (l *lateFile) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
