//go:build linux

// Package guest runs a Debian guest in QEMU between two network namespaces, because the kernel of a test machine may lack the
// module Jool, other kinds of interfaces, or systemd. scripts/guest builds the guest, which needs no KVM.
//
//	client (namespace)                    guest                          server (namespace)
//	eth0 2001:db8:1::2/64 ─── TAP ─── eth0        eth1 ─── TAP ─── eth0 192.0.2.2/24
//
// The ends have the addresses of package lab; the guest's interfaces are up and have none.
package guest

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"nat64d/lab"
)

// The hardware addresses of the guest's interfaces towards the client and the server.
var (
	MAC6 = net.HardwareAddr{2, 0, 0, 0, 0, 6}
	MAC4 = net.HardwareAddr{2, 0, 0, 0, 0, 4}
)

// The versions of the guest's kernels begin with these.
const (
	Debian13 = "6.12."
	Debian12 = "6.1."
)

// Options are the parameters of a guest.
type Options struct {
	// Dir is the directory in which scripts/guest has built the guest.
	Dir string
	// Kernel is the beginning of the version of the guest's kernel, by default Debian13.
	Kernel string
	// Systemd starts systemd as the first process. Otherwise nothing runs that Run does not start.
	Systemd bool
	// Count makes the virtual clock advance by a nanosecond for each instruction, and enables Instructions. The guest then
	// behaves in the same way whatever else the machine does.
	Count bool
	// Processors is the number of the guest's processors, 0 for 1.
	Processors int
	// Files are copied into the guest before it runs: names in the guest and on this machine.
	Files map[string]string
}

// Guest is a running guest and its network. Its methods are not for concurrent use.
type Guest struct {
	// Client and Server are the namespaces at the ends.
	Client, Server *lab.Namespace

	lab     *lab.Lab
	machine *machine
	answers *bufio.Reader
	agent   net.Conn
	monitor *monitor
	counter net.Conn // nil without Options.Count
}

// bootWithin bounds the time from the start of QEMU to the first answer. An idle machine of two cores takes 20 seconds.
const bootWithin = 10 * time.Minute

// Start boots a guest and waits until it runs commands. The caller must close it.
func Start(ctx context.Context, o Options) (*Guest, error) {
	if _, err := os.Stat(filepath.Join(o.Dir, "mark")); err != nil {
		return nil, fmt.Errorf("guest: %s has no complete guest: scripts/guest %s builds one: %w", o.Dir, o.Dir, err)
	}
	g := &Guest{}
	if err := g.start(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("guest: %w", err), g.Close())
	}
	return g, nil
}

func (g *Guest) start(ctx context.Context, o Options) (err error) {
	if g.lab, err = newEnds(); err != nil {
		return err
	}
	g.Client, g.Server = g.lab.Client, g.lab.Server
	if g.machine, err = newMachine(g.lab, o); err != nil {
		return err
	}
	g.agent, g.counter = g.machine.agent, g.machine.counter
	g.answers = bufio.NewReader(g.agent)
	if g.monitor, err = newMonitor(g.machine.monitor); err != nil {
		return err
	}
	if err := configureEnds(ctx, g.lab); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	// The driver may create the interfaces later than the port of the agent.
	_, err = g.Run(within, `until ip link set eth0 up && ip link set eth1 up; do sleep 0.1; done 2>/dev/null`)
	return err
}

// Run runs a shell command in the guest and returns its output, standard error included. A command that starts a process in the
// background must redirect the output of that.
func (g *Guest) Run(ctx context.Context, command string) (string, error) {
	// Interrupts the reading when ctx ends; nothing can be run afterwards.
	defer context.AfterFunc(ctx, func() { _ = g.agent.SetDeadline(time.Now()) })()
	if _, err := fmt.Fprintln(g.agent, base64.StdEncoding.EncodeToString([]byte(command))); err != nil {
		return "", g.lost(ctx, err)
	}
	line, err := g.answers.ReadString('\n')
	if err != nil {
		return "", g.lost(ctx, err)
	}
	code, output, err := parseAnswer(line)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return output, fmt.Errorf("in the guest: %s: exit code %d: %s", command, code, output)
	}
	return output, nil
}

// lost returns the error of a guest that does not answer, with the end of its console.
func (g *Guest) lost(ctx context.Context, err error) error {
	return fmt.Errorf("the guest does not answer: %w; its console ends with:\n%s", errors.Join(ctx.Err(), err), g.machine.console.tail())
}

// parseAnswer decodes the answer of guest-agent: an exit code and output in base64.
func parseAnswer(line string) (code int, output string, err error) {
	number, encoded, _ := strings.Cut(strings.TrimSpace(line), " ")
	if code, err = strconv.Atoi(number); err != nil {
		return 0, "", fmt.Errorf("answer of the guest: %q: must begin with an exit code", line)
	}
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return 0, "", fmt.Errorf("answer of the guest: %w", err)
	}
	return code, strings.TrimSuffix(string(b), "\n"), nil
}

// Close stops the guest and removes its network. It may be called more than once.
func (g *Guest) Close() error {
	var err error
	if g.machine != nil {
		err = g.machine.close()
	}
	if g.lab == nil {
		return err
	}
	return errors.Join(err, g.lab.Close())
}

// console keeps the end of what the guest writes to its serial line.
type console struct {
	mu   sync.Mutex
	text []byte
}

// consoleSize is how much of the console is kept.
const consoleSize = 8 << 10

func (c *console) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, b...)
	if excess := len(c.text) - consoleSize; excess > 0 {
		c.text = c.text[excess:]
	}
	return len(b), nil
}

func (c *console) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}
