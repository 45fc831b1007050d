package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"nat64d/lab"
	"nat64d/ops/control"
	"nat64d/test/dissect"
)

// observer is a nat64ctl in the background.
type observer struct {
	cmd       *exec.Cmd
	out, errs journal
}

// observe starts nat64ctl.
func (g *daemon) observe(args ...string) *observer {
	g.t.Helper()
	return g.background(exec.Command(binaries(g.t).nat64ctl, append([]string{"--socket", g.socket}, args...)...))
}

// observeIn starts a shell command with nat64ctl at its place %s.
func (g *daemon) observeIn(env []string, shell string) *observer {
	g.t.Helper()
	cmd := exec.Command("sh", "-c", fmt.Sprintf(shell, binaries(g.t).nat64ctl+" --socket "+g.socket))
	cmd.Env = env
	return g.background(cmd)
}

// background starts a command that is killed with the test.
func (g *daemon) background(cmd *exec.Cmd) *observer {
	g.t.Helper()
	o := &observer{cmd: cmd}
	o.cmd.Stdout, o.cmd.Stderr = &o.out, &o.errs
	if err := o.cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = o.cmd.Process.Kill() })
	return o
}

// tapped reports whether nat64d refuses a further trace, because the maximum number is running.
func (g *daemon) tapped() bool {
	o := g.observeIn(nil, "timeout 1 %s trace --reason panic")
	_ = o.cmd.Wait() // it is refused, or ended by timeout
	return strings.Contains(o.errs.String(), "4 traces and captures are running")
}

// interrupt ends the process like Ctrl-C.
func (o *observer) interrupt(t *testing.T) {
	t.Helper()
	_ = o.cmd.Process.Signal(os.Interrupt)
	if err := o.cmd.Wait(); err != nil {
		t.Errorf("%v: %v, %s", o.cmd.Args, err, o.errs.String())
	}
}

// Traces and captures show the packets of a running gateway, and end cleanly.
func TestTraceAndCapture(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, spareFile+"deny_v4: [192.0.2.77/32]\n")
	serveEcho(t, l)
	file := filepath.Join(t.TempDir(), "all.pcapng")
	tshark, env := tool(t, "tshark")
	fields := "-n -T fields -e frame.interface_name -e frame.comment -e frame.protocols"
	capture := g.observe("capture", "-w", file)
	pipe := g.observeIn(env, "%s capture -w - --drops --limit 2 --snap 80 | '"+tshark+"' -r - "+fields)
	traced, drops := g.observe("trace", "-o", "json", "--tcp", "--port", "7"), g.observe("trace", "--drops")
	piped := make(chan error, 1)
	go func() { piped <- pipe.cmd.Wait() }()
	var ended bool
	eventually(t, 10*time.Second, "all observers have seen packets", func() error {
		header, err := os.Stat(file)
		all := err == nil && header.Size() > 0 && traced.out.String() != "" && drops.out.String() != ""
		traffic(t, l)
		select {
		case err = <-piped:
			if ended = true; err != nil || strings.Count(pipe.out.String(), "dropped: denied4: ") != 2 {
				t.Errorf("tshark behind a pipe: %v, %s%s", err, pipe.out.String(), pipe.errs.String())
			}
		default:
		}
		if !all || !ended || !strings.Contains(traced.out.String(), "ESTABLISHED") || !strings.Contains(drops.out.String(), "denied4") {
			return fmt.Errorf("all begun: %v, the pipe has ended: %v, or the traces lack packets", all, ended)
		}
		return nil
	})
	for _, o := range []*observer{capture, traced, drops} {
		o.interrupt(t)
	}
	t.Run("trace", func(t *testing.T) { checkTrace(t, traced.out.String()) })
	t.Run("drops", func(t *testing.T) { checkDrops(t, drops.out.String()) })
	t.Run("file", func(t *testing.T) { checkCapture(t, l, file) })
	t.Run("tshark", func(t *testing.T) {
		checkTshark(t, l, tshark, env, append([]string{"-r", file}, strings.Fields(fields)...))
	})
	t.Run("killed readers", func(t *testing.T) { checkKilledReaders(t, g) })
	g.stop()
}

// traffic exchanges packets of each kind, and sends one that is refused.
func traffic(t *testing.T, l *lab.Lab) {
	t.Helper()
	checkPing(t, l)
	for _, proto := range []string{"tcp", "udp"} {
		c, err := open(l, proto, 0, 0)
		if err == nil {
			err = errors.Join(exchange(c, 1), c.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Client.Ping(limit(t, 100*time.Millisecond), "64:ff9b::192.0.2.77", 1, 0); err == nil {
		t.Error("a denied host answers")
	}
}

// checkTrace checks the trace of TCP connections to port 7.
func checkTrace(t *testing.T, text string) {
	var made, replies, states int
	for line := range strings.Lines(text) {
		var p control.Traced
		decode(t, line, &p)
		if p.Verdict.Verdict != "forwarded" || p.Protocol != "tcp" || p.PeerPort != 7 || p.Peer.String() != lab.Server4 || p.Client.String() != lab.Client6 {
			t.Errorf("the trace has %s", line)
		}
		if len(p.Steps) < 6 || p.Steps[len(p.Steps)-1].Step != "end" || p.Sent == nil || p.MTU == 0 {
			t.Errorf("steps or translation are missing: %s", line)
		}
		switch {
		case p.Session == "made" && p.State == "V6_INIT":
			made++
		case p.StateBefore == "V6_INIT" && p.State == "ESTABLISHED" && p.Direction == "4to6":
			states++
		case p.Direction == "4to6":
			replies++
		}
	}
	if made == 0 || states != made || replies == 0 {
		t.Errorf("%d sessions made, %d established, %d replies:\n%s", made, states, replies, text)
	}
}

func checkDrops(t *testing.T, text string) {
	if !strings.Contains(text, "dropped: denied4: the IPv4 address, or its port, is on the deny list") || !strings.Contains(text, "ICMPv6 Destination Unreachable (type 1, code 1)") {
		t.Errorf("the reason or the answer is missing:\n%s", text)
	}
	if strings.Contains(text, "forwarded") {
		t.Errorf("packets that are not dropped:\n%s", text)
	}
}

// checkCapture reads a capture with gopacket: whole packets with correct checksums, on two interfaces.
func checkCapture(t *testing.T, l *lab.Lab, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for {
		data, info, err := r.ReadPacketData()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		nic, err := r.Interface(info.InterfaceIndex)
		p, wrong := dissect.IP(data)
		if err != nil || wrong != nil || info.Length != len(data) || nic.LinkType != layers.LinkTypeRaw || time.Since(info.Timestamp) > time.Minute {
			t.Fatalf("%v, %v, %+v on %+v", err, wrong, info, nic)
		}
		if want := map[bool]string{true: l.NIC6, false: l.NIC4}[p.IP6 != nil]; nic.Name != want {
			t.Errorf("a packet of %s is captured on %s", want, nic.Name)
		}
		seen[nic.Name]++
	}
	if seen[l.NIC6] < 10 || seen[l.NIC4] < 10 {
		t.Errorf("packets by interface: %v", seen)
	}
}

// checkTshark has another program read the capture, with its comments.
func checkTshark(t *testing.T, l *lab.Lab, path string, env, args []string) {
	cmd := exec.Command(path, args...)
	cmd.Env = env
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for _, want := range []string{
		l.NIC6 + "\t6to4 received; tcp [" + lab.Client6 + "]:", l.NIC4 + "\t6to4 sent; tcp [" + lab.Client6 + "]:", ", session made; forwarded\traw:ipv6:tcp",
		l.NIC4 + "\t4to6 received; udp ", l.NIC6 + "\t4to6 sent; icmp ", "6to4 answer of the gateway; dropped: denied4: ",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("tshark does not print %q:\n%s", want, text)
		}
	}
}

// checkKilledReaders kills readers, whose places are then free again, while others stay.
func checkKilledReaders(t *testing.T, g *daemon) {
	var killed []*observer
	for range 4 {
		o := g.observe("trace")
		eventually(t, 5*time.Second, "it traces", func() error {
			if checkPing(t, g.lab); o.out.String() == "" {
				return errors.New("it shows no packet")
			}
			return nil
		})
		killed = append(killed, o)
	}
	if !g.tapped() {
		t.Error("with 4 traces there is place for a fifth")
	}
	for _, o := range killed {
		_ = o.cmd.Process.Signal(syscall.SIGKILL)
		_ = o.cmd.Wait() // it was killed
	}
	eventually(t, 5*time.Second, "a place is free again", func() error {
		checkPing(t, g.lab)
		if g.tapped() {
			return errors.New("all places are taken")
		}
		return nil
	})
}
