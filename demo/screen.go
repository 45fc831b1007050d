//go:build linux

package demo

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/term"

	"nat64d/lab"
)

// The smallest terminal in which the picture is repainted in place; otherwise, and in files, it is printed as lines.
const (
	screenColumns = 80
	screenRows    = 20
)

// The escape sequences in use (ECMA-48).
const (
	eraseLine  = "\x1b[K"
	cursorUp   = "\x1b[%dA"
	colorReset = "\x1b[0m"
	bold       = "\x1b[1m"
	dim        = "\x1b[2m"
	green      = "\x1b[32m"
	red        = "\x1b[31m"
	cyan       = "\x1b[36m"
)

// figures are the changing values of the picture.
type figures struct {
	v6, v4   flow // traffic of the gateway's interfaces
	running  bool // the gateway answers
	bindings uint64
	sessions uint64
	drops    uint64
}

// screen shows the picture and the steps of the demonstration: repainted in place on a terminal, otherwise as lines.
// It is safe for concurrent use.
type screen struct {
	out   io.Writer
	live  bool // repaint in place
	color bool
	scene scene

	mu      sync.Mutex
	started bool
	figures figures
	steps   []string // finished ones
	current string   // the running step, or ""
	painted int      // number of lines that the next painting replaces
}

// scene is the text of the picture that belongs to one kind of demonstration.
type scene struct {
	clients string    // the name of their box
	lines   [3]string // in that box, at most 13 characters each
	middle  string    // the name of the middle box
	nics    string    // the interfaces of nat64d at both sides of that box, 17 characters
	seenAs  string    // the server's view of the clients: a name, at most 3 characters
}

var gatewayScene = scene{
	clients: "c6",
	lines:   [3]string{"IPv6 only", lab.Client6, ""},
	middle:  "gw",
	nics:    "v6             v4",
	seenAs:  "c6",
}

// newScreen examines the kind of out. It uses no colors if NO_COLOR is set.
func newScreen(out *os.File, text scene) *screen {
	s := &screen{out: out, scene: text}
	if columns, rows, err := term.GetSize(int(out.Fd())); err == nil {
		s.live = columns >= screenColumns && rows >= screenRows && os.Getenv("TERM") != "dumb"
		s.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return s
}

// start shows the picture.
func (s *screen) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	if s.live {
		s.paint()
		return
	}
	s.println(s.picture()...)
}

// begin shows the running step.
func (s *screen) begin(title string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current = title
	s.repaint()
}

// done shows the result of the running step.
func (s *screen) done(result string) { s.finish("✓", green, result) }

// finish adds the current step to the finished ones.
func (s *screen) finish(sign, color, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf(" %s %-46s %s", s.paintIn(color, sign), s.current, s.paintIn(bold, result))
	s.current = ""
	if s.live {
		s.steps = append(s.steps, line)
		s.paint()
		return
	}
	s.println(line)
}

// update shows new figures.
func (s *screen) update(f figures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.figures = f
	s.repaint()
}

// say prints permanent lines. On a terminal, the current picture stays above them and painting continues below.
func (s *screen) say(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.println(lines...)
}

// end stops painting; a step that is still running has failed.
func (s *screen) end() {
	s.mu.Lock()
	failed := s.current != ""
	s.mu.Unlock()
	if failed {
		s.finish("✗", red, "failed")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.started = false
}

func (s *screen) settle() { s.steps, s.painted = nil, 0 }

func (s *screen) println(lines ...string) {
	for _, l := range lines {
		fmt.Fprintln(s.out, l)
	}
}

func (s *screen) repaint() {
	if s.live && s.started {
		s.paint()
	}
}

// paint replaces the previous block with a single write, so that it does not flicker.
func (s *screen) paint() {
	block := append(s.picture(), s.steps...)
	if s.current != "" {
		block = append(block, fmt.Sprintf(" %s %s", s.paintIn(cyan, "…"), s.current))
	}
	var b strings.Builder
	if s.painted > 0 {
		fmt.Fprintf(&b, cursorUp, s.painted)
	}
	for _, l := range block {
		b.WriteString(l + eraseLine + "\n")
	}
	s.painted = len(block)
	_, _ = io.WriteString(s.out, b.String()) // a closed terminal needs no picture
}

func (s *screen) paintIn(color, text string) string {
	if !s.color {
		return text
	}
	return color + text + colorReset
}

// picture returns the topology with its figures, at most screenColumns wide.
func (s *screen) picture() []string {
	f := s.figures
	in := func(color, text string, width int) string { return s.paintIn(color, pad(text, width)) }
	var client [3]string
	for i, l := range s.scene.lines {
		client[i] = in("", l, 13)
	}
	client[1] = in(cyan, s.scene.lines[1], 13)
	server := [...]string{in("", "IPv4 only", 12), in(cyan, lab.Server4, 12), in("", "", 12)}
	name, row := in(bold, "nat64d", 15), func(string, uint64) string { return pad("", 15) }
	if f.running {
		row = func(name string, n uint64) string { return pad(name, 9) + fmt.Sprintf("%6s", compact(n)) }
	}
	bindings, sessions, drops := row("bindings", f.bindings), row("sessions", f.sessions), row("drops", f.drops)
	seen := [...]string{in(dim, "  sees s4 as", 31), in(dim, "  "+lab.Server4As6, 31), in(dim, "  sees "+s.scene.seenAs+" as", 12), in(dim, "  "+lab.Gateway4, 12)}
	gap := pad("", 13)
	return []string{
		"",
		" " + top(s.scene.clients, 15) + gap + top(s.scene.middle, 17) + gap + top("s4", 14),
		" │ " + client[0] + " │" + s.rate(f.v6.in, "▶") + "│ " + name + " │" + s.rate(f.v4.out, "▶") + "│ " + server[0] + " │",
		" │ " + client[1] + " ├─────────────┤" + s.scene.nics + "├─────────────┤ " + server[1] + " │",
		" │ " + client[2] + " │" + s.rate(f.v6.out, "◀") + "│ " + bindings + " │" + s.rate(f.v4.in, "◀") + "│ " + server[2] + " │",
		" └───────────────┘" + gap + "│ " + sessions + " │" + gap + "└──────────────┘",
		seen[0] + "│ " + drops + " │" + gap + seen[2],
		seen[1] + "└─────────────────┘" + gap + seen[3],
		"",
	}
}

// top returns the upper edge of a box with a name and an inner width.
func top(name string, width int) string {
	return "┌ " + name + " " + strings.Repeat("─", width-2-utf8.RuneCountInString(name)) + "┐"
}

// rate formats the traffic of a link in one direction.
func (s *screen) rate(bits float64, arrow string) string {
	if !s.live {
		return pad("", 13)
	}
	text := fmt.Sprintf("%6.1f Mb/s", bits/1e6)
	if bits >= 999.95e6 {
		text = fmt.Sprintf("%6.1f Gb/s", bits/1e9)
	}
	if arrow == "▶" {
		text += " " + arrow
	} else {
		text = arrow + " " + text
	}
	return s.paintIn(green, pad(text, 13))
}

// compact formats a number with at most six characters.
func compact(n uint64) string {
	f := float64(n)
	for _, unit := range []string{"", " k", " M", " G"} {
		switch {
		case unit == "" && f < 1e4:
			return fmt.Sprintf("%.0f", f)
		case f < 9.95:
			return fmt.Sprintf("%.1f%s", f, unit)
		case f < 999.5:
			return fmt.Sprintf("%.0f%s", f, unit)
		}
		f /= 1e3
	}
	return fmt.Sprintf("%.0f T", f)
}

// pad pads text with spaces to a width in characters.
func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}
