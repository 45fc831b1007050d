// Command nat64ctl shows and changes a running nat64d through its control socket. Its manual is its own help; exit
// codes are 0 done, 1 refused, 2 wrong use, 3 daemon not reachable.
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

// usageError is a command line that cannot be carried out whatever the daemon says.
type usageError struct {
	error
	command string // whose help tells more
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

// explain writes what was wrong and, as far as it is known, what would be right.
func explain(w io.Writer, err error) {
	var usage usageError
	var refused *control.Error
	switch {
	case errors.Is(err, errUnhealthy): // the command has said why
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
