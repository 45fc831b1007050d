package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/term"
)

// progress reports the current measurement on standard error: on a terminal in one line that changes, otherwise one
// line per gateway.
type progress struct {
	steps, done int
	start       time.Time
	terminal    bool
	gateway     string
}

func newProgress(steps int) *progress {
	return &progress{steps: steps, start: time.Now(), terminal: term.IsTerminal(int(os.Stderr.Fd()))}
}

// step reports the next step.
func (p *progress) step(gateway, what string) {
	p.done++
	elapsed := time.Since(p.start).Round(time.Second)
	switch {
	case p.terminal:
		fmt.Fprintf(os.Stderr, "\r\033[K[%d/%d] %v  %s: %s", p.done, p.steps, elapsed, gateway, what)
	case gateway != p.gateway:
		fmt.Fprintf(os.Stderr, "[%d/%d] %v  %s\n", p.done, p.steps, elapsed, gateway)
	}
	p.gateway = gateway
}

// end clears the line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
