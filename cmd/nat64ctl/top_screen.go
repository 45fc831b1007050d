package main

import (
	"context"
	"errors"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
)

// topKeys are the keys that choose an order of the clients.
var topKeys = map[string]string{"p": "ports", "s": "sessions", "r": "rate", "b": "bytes", "k": "packets"}

const topHelp = "sort: p ports  s sessions  r rate  b bytes  k packets   space now  q quit"

// topScreen shows views in a terminal until the user ends it.
func (a *app) topScreen(ctx context.Context, o topOptions) error {
	m := &topModel{ctx: ctx, options: o, look: a.sample, paint: a.paint}
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithOutput(a.out)).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return nil
	}
	return err
}

// topModel is the state of the screen. While the daemon does not answer, it keeps the last view.
type topModel struct {
	ctx     context.Context
	options topOptions
	look    func(ctx context.Context, order string, clients int) (topSample, error)
	paint   func(colour, text string) string

	width, height int
	last          *topSample
	view          *topView
	failed        error
	looking       bool // a request is under way
	turn          int  // number of the next look: a tick of an older one does nothing
}

// looked is the result of a look.
type looked struct {
	sample topSample
	order  string
	err    error
}

// due is the message of the time of a look.
type due struct{ turn int }

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.lookNow() }

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	case due:
		if msg.turn == m.turn {
			return m, m.lookNow()
		}
	case looked:
		m.looking = false
		m.take(&msg)
		return m, m.lookLater(msg.order)
	}
	return m, nil
}

func (m *topModel) key(key string) tea.Cmd {
	switch order := topKeys[key]; {
	case key == "q" || key == "esc" || key == "ctrl+c":
		return tea.Quit
	case key == "space":
		return m.lookNow()
	case order != "" && order != m.options.order:
		m.options.order = order
		return m.lookNow()
	}
	return nil
}

// lookNow asks the daemon, unless it is being asked.
func (m *topModel) lookNow() tea.Cmd {
	if m.looking {
		return nil
	}
	m.looking = true
	m.turn++
	order, clients := m.options.order, max(m.options.clients, m.height)
	return func() tea.Msg {
		s, err := m.look(m.ctx, order, min(clients, 1000))
		return looked{s, order, err}
	}
}

// lookLater looks again after the interval; at once if the user has chosen another order meanwhile, and soon after the first
// look, which has no rates.
func (m *topModel) lookLater(order string) tea.Cmd {
	after := m.options.every
	switch {
	case order != m.options.order:
		return m.lookNow()
	case m.view == nil && m.failed == nil:
		after = min(after, time.Second)
	}
	turn := m.turn
	return tea.Tick(after, func(time.Time) tea.Msg { return due{turn} })
}

// take takes the result of a look.
func (m *topModel) take(l *looked) {
	if m.failed = l.err; l.err != nil {
		return
	}
	s := &l.sample
	switch {
	case m.last == nil || s.status.PID != m.last.status.PID: // the first look, or that at another process
		m.view = nil
	case s.at.Sub(m.last.at) < 100*time.Millisecond && m.view != nil: // too short for rates: the user has chosen another order
		m.view.Clients, m.view.SortedBy = s.clients.Clients, l.order
		return
	default:
		v := newTopView(m.last, s, l.order)
		m.view = &v
	}
	m.last = s
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	v := tea.NewView(m.text())
	v.AltScreen = true
	return v
}

// text returns the lines of the screen.
func (m *topModel) text() string {
	var lines []string
	if m.failed != nil {
		why, _, _ := strings.Cut(m.failed.Error(), "\n")
		why = "trying again: " + why
		if m.width > 0 {
			why = ansi.Truncate(why, m.width, "…")
		}
		lines = append(lines, m.paint(red, why))
	}
	switch {
	case m.view != nil:
		lines = append(lines, m.view.lines(m.width, m.height-len(lines)-1, m.paint)...)
	case m.failed == nil:
		lines = append(lines, "looking…")
	}
	if m.height > 0 {
		lines = lines[:min(len(lines), m.height-1)]
	}
	return strings.Join(append(lines, topHelp), "\n")
}

var _ tea.Model = (*topModel)(nil)
