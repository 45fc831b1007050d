package test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a command that runs in a pseudo-terminal.
type terminal struct {
	t      *testing.T
	user   *os.File // its side with the keys and the screen
	before unix.Termios
	cmd    *exec.Cmd
	out    journal
	ended  chan struct{} // closed when all output of the command is in out
}

// inTerminal runs nat64ctl in a terminal of 80 columns and 24 lines.
func inTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	m := &terminal{t: t, ended: make(chan struct{})}
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	m.user = os.NewFile(uintptr(fd), "/dev/ptmx")
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	side, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0) // of the command
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close() // then reading ends when the command has ended
	m.resize(80, 24)
	m.before = m.settings()
	m.cmd = exec.Command(binaries(t).nat64ctl, args...)
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = side, side, side
	m.cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "NO_COLOR="), env...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = io.Copy(&m.out, m.user) // ends with an error: the other side is closed
		_ = m.cmd.Wait()               // ProcessState has the result
		close(m.ended)
	}()
	t.Cleanup(func() {
		_ = m.cmd.Process.Kill() // it may have ended
		<-m.ended
		_ = m.user.Close() // or closed before
	})
	return m
}

func (m *terminal) resize(columns, lines uint16) {
	m.t.Helper()
	if err := m.control(func(fd int) error {
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: lines})
	}); err != nil {
		m.t.Fatal(err)
	}
}

// settings returns the settings of the terminal.
func (m *terminal) settings() (s unix.Termios) {
	m.t.Helper()
	if err := m.control(func(fd int) error {
		got, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err == nil {
			s = *got
		}
		return err
	}); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *terminal) control(f func(fd int) error) error {
	raw, err := m.user.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

func (m *terminal) press(keys string) {
	m.t.Helper()
	if _, err := m.user.WriteString(keys); err != nil {
		m.t.Fatal(err)
	}
}

// see waits until text is written after the first so many bytes of output, and returns the length of the output.
func (m *terminal) see(text string, after int) int {
	m.t.Helper()
	var out string
	eventually(m.t, 10*time.Second, "the screen shows "+text, func() error {
		if out = m.out.String(); !strings.Contains(out[after:], text) {
			return fmt.Errorf("%q", out[after:])
		}
		return nil
	})
	return len(out)
}

// end waits until the command ends, and returns its exit code and its output.
func (m *terminal) end() (int, string) {
	m.t.Helper()
	select {
	case <-m.ended:
	case <-time.After(10 * time.Second):
		m.t.Fatalf("nat64ctl did not end; its output is %q", m.out.String())
	}
	return m.cmd.ProcessState.ExitCode(), m.out.String()
}

// left checks that the command has ended with success, and that the terminal is as it was before.
func (m *terminal) left(how string) {
	m.t.Helper()
	code, out := m.end()
	if code != 0 {
		m.t.Errorf("%s: exit code %d", how, code)
	}
	if after := m.settings(); after != m.before {
		m.t.Errorf("%s: the settings of the terminal are %+v, want %+v", how, after, m.before)
	}
	for on, off := range map[string]string{"\x1b[?1049h": "\x1b[?1049l", "\x1b[?25l": "\x1b[?25h"} { // other screen, no cursor
		if !strings.Contains(out, on) || strings.LastIndex(out, off) < strings.LastIndex(out, on) {
			m.t.Errorf("%s: no %q after %q in %q", how, off, on, out)
		}
	}
}

var colour = regexp.MustCompile(`\x1b\[[0-9;:]*[1-9][0-9;:]*m`)

// checkColours expects colours in a terminal only, and none if the user does not want them.
func checkColours(t *testing.T, g *daemon) {
	cases := []struct {
		args, env string
		want      bool
	}{
		{"status", "TERM=xterm", true},
		{"status", "NO_COLOR=1", false},
		{"status", "NO_COLOR=0", false},
		{"status", "TERM=dumb", false},
		{"top -n 1 -d 100ms", "NO_COLOR=", true}, // empty: as without it
		{"top -n 1 -d 100ms", "NO_COLOR=1", false},
	}
	screen := inTerminal(t, []string{"NO_COLOR=1"}, "--socket", g.socket, "top", "-d", "100ms")
	var terminals []*terminal
	for _, c := range cases {
		terminals = append(terminals, inTerminal(t, []string{c.env}, append([]string{"--socket", g.socket}, strings.Fields(c.args)...)...))
	}
	for i, c := range cases {
		if code, out := terminals[i].end(); code != 0 || colour.MatchString(out) != c.want || strings.Contains(out, "\x1b") != c.want {
			t.Errorf("%s nat64ctl %s: exit code %d, want colours: %v: %q", c.env, c.args, code, c.want, out)
		}
		if out := g.must(strings.Fields(c.args)...); c.want && strings.Contains(out, "\x1b") {
			t.Errorf("nat64ctl %s without a terminal has colours: %q", c.args, out)
		}
	}
	screen.see("PORTS*", 0)
	screen.press("q")
	if _, out := screen.end(); colour.MatchString(out) {
		t.Errorf("NO_COLOR=1 nat64ctl top has colours: %q", out)
	}
}

// checkTop uses top in terminals, and then ends the daemon.
func checkTop(t *testing.T, g *daemon) {
	var at [5]int
	var tops [5]*terminal
	for i := range tops {
		tops[i] = inTerminal(t, nil, "--socket", g.socket, "top", "-d", "100ms")
	}
	for i, m := range tops {
		at[i] = m.see("PORTS*", 0)
		if !colour.MatchString(m.out.String()) {
			t.Errorf("no colours: %q", m.out.String())
		}
	}
	keys, interrupted, ended, closed, alone := tops[0], tops[1], tops[2], tops[3], tops[4]
	keys.press("s")
	keys.resize(100, 30) // draws all of the screen
	after := keys.see("SESSIONS*", at[0])
	keys.press("b")
	keys.resize(60, 16)
	keys.see("BYTES*", after)
	keys.press("q")
	keys.left("q")

	interrupted.press("\x03")
	interrupted.left("Ctrl-C")

	if err := ended.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended.left("SIGTERM")

	if err := closed.user.Close(); err != nil { // the connection of the user breaks
		t.Fatal(err)
	}
	closed.end()

	g.stop()
	alone.see("trying again", at[4])
	alone.press("q")
	alone.left("q without a daemon")
}
