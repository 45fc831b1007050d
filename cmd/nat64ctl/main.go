// Command nat64ctl shows and changes the state of a running nat64d through its control socket. Exit codes are 0 for success, 1
// for a refused request, 2 for a usage error and 3 if the daemon is not reachable.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"nat64d/ops/control"
)

// Exit codes.
const (
	exitDone        = 0
	exitRefused     = 1
	exitUsage       = 2
	exitUnreachable = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr, format: formatTable}
	root := newRoot(a)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError{err, c.CommandPath()}
	}
	if err != nil {
		explain(stderr, err)
	}
	return exitCode(err)
}

// usageError is a mistake in the command line.
type usageError struct {
	error
	command string // path of the command, whose help explains the usage
}

func exitCode(err error) int {
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.Is(err, control.ErrUnreachable):
		return exitUnreachable
	default:
		return exitRefused
	}
}

// explain prints an error and, if known, a hint.
func explain(w io.Writer, err error) {
	var usage usageError
	var refused *control.Error
	switch {
	case errors.Is(err, errUnhealthy): // the command has printed the reasons
	case errors.As(err, &usage):
		fmt.Fprintf(w, "nat64ctl: %v\nsee: %s --help\n", err, usage.command)
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(w, "nat64ctl: interrupted")
	case errors.As(err, &refused) && refused.Hint != "":
		fmt.Fprintf(w, "nat64ctl: %v\nhint: %s\n", err, refused.Hint)
	default:
		fmt.Fprintf(w, "nat64ctl: %v\n", err)
	}
}
