package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// watchEvery is the interval of --watch without a value, and leastWatch the shortest one.
const (
	watchEvery = 2 * time.Second
	leastWatch = 100 * time.Millisecond
)

// watched makes run the action of a command, and adds the flag --watch, which repeats it until the user interrupts it.
func (a *app) watched(c *cobra.Command, run func(*cobra.Command, []string) error) {
	var every time.Duration
	c.Flags().DurationVarP(&every, "watch", "w", 0, "repeat the output, every 2s without a value (--watch=5s)")
	c.Flags().Lookup("watch").NoOptDefVal = watchEvery.String()
	c.RunE = func(c *cobra.Command, args []string) error {
		if !c.Flags().Changed("watch") {
			return run(c, args)
		}
		if every < leastWatch {
			return usageError{fmt.Errorf("--watch=%v is too short: use %v or more", every, leastWatch), c.CommandPath()}
		}
		return a.repeat(c, every, func() error { return run(c, args) })
	}
}

// repeat runs a command again and again. It continues when nat64d ceases to answer, because it
// may be restarting.
func (a *app) repeat(c *cobra.Command, every time.Duration, run func() error) error {
	for first := true; ; first = false {
		_, yaml := a.out.(yamlOutput)
		switch {
		case a.terminal():
			fmt.Fprintf(a.out, "\x1b[H\x1b[2J%s, every %v, at %s\n\n", c.CommandPath(), every, time.Now().Format(time.TimeOnly))
		case !first && yaml:
			fmt.Fprintln(a.out, "---")
		case !first && a.format == formatTable:
			fmt.Fprintln(a.out)
		}
		err := run()
		var usage usageError
		switch {
		case c.Context().Err() != nil:
			return nil // the user has interrupted it
		case errors.As(err, &usage), first && err != nil && !errors.Is(err, errUnhealthy):
			return err
		case err != nil && !errors.Is(err, errUnhealthy):
			explain(a.err, err)
		}
		select {
		case <-c.Context().Done():
			return nil
		case <-time.After(every):
		}
	}
}

// terminal reports whether the output is a terminal.
func (a *app) terminal() bool {
	f, ok := a.out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// The colours of SGR.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint returns the text in a colour, if the output is a terminal that has colours and the user wants them (https://no-color.org).
func (a *app) paint(colour, text string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !a.terminal() {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// printCount prints a number, in other formats the object that contains it.
func (a *app) printCount(n int, object any, err error) error {
	switch {
	case err != nil:
		return err
	case a.format == formatTable && !a.wide:
		_, err = fmt.Fprintln(a.out, n)
		return err
	}
	fields, err := fieldsOf(object)
	if err != nil {
		return err
	}
	return printFields(a, object, fields)
}
