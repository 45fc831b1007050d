package test

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// nat64d rejects invalid input before it changes the machine, and its message states what would be right.
func TestDaemonRefusesBadInput(t *testing.T) {
	l := network(t, lab.Options{})
	flags := func(v4, pool6, pool4 string) []string {
		return []string{"--v6", l.NIC6, "--v4", v4, "--pool6", pool6, "--pool4", pool4}
	}
	file := func(yaml string) []string { return []string{"-c", write(t, t.TempDir(), yaml)} }
	good := "interfaces: { v6: { name: " + l.NIC6 + " }, v4: { name: " + l.NIC4 + " } }\n"
	for _, c := range []struct {
		name string
		args []string
		want []string // all must be in its output
	}{
		{"reversed ports", flags(l.NIC4, lab.Prefix6, "192.0.2.1:8000-7000"), []string{"8000-7000"}},
		{"port 0", flags(l.NIC4, lab.Prefix6, "192.0.2.1:0-10"), []string{"0-10"}},
		{"no address", flags(l.NIC4, lab.Prefix6, "gateway:7000-8000"), []string{"gateway"}},
		{"prefix length", flags(l.NIC4, "64:ff9b::/97", ownPool), []string{"64:ff9b::/97", "96"}},
		{"prefix family", flags(l.NIC4, "192.0.2.0/24", ownPool), []string{"192.0.2.0/24"}},
		{"NIC of a wrong type", flags("lo", lab.Prefix6, ownPool), []string{"lo", "Ethernet"}},
		{"NIC that cannot exist", flags("eth/9", lab.Prefix6, ownPool), []string{"eth/9"}},
		{"NIC with too long a name", flags("ethernet-number-9", lab.Prefix6, ownPool), []string{"ethernet-number-9"}},
		{"unknown engine", append(flags(l.NIC4, lab.Prefix6, ownPool), "--engine", "warp"), []string{"warp", "ring"}},
		{"unknown flag", []string{"--pool5", "x"}, []string{"--pool5"}},
		{"missing file", []string{"-c", "/nonexistent.yaml"}, []string{"/nonexistent.yaml"}},
		{"unknown key", file(good + "pool44: []\n"), []string{"2", "pool44", "pool4"}},
		{"two problems at once", file(good + "pool4: [ { address: 192.0.2.300 } ]\nsessions: { max: -1 }\n"), []string{"192.0.2.300", "max"}},
		{"timeout below the minimum", file(good + "sessions: { timeouts: { udp: 1s } }\n"), []string{"udp", "allow_unsafe_timeouts"}},
		{"no YAML", file("interfaces: [\n"), []string{"nat64d.yaml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := launch(t, l, socketPath(t), c.args...)
			if code := g.wait(); code <= 0 {
				t.Errorf("exit code %d, want a failure", code)
			}
			said := g.log.String()
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("its output %q lacks %q", said, want)
				}
			}
			if strings.Contains(said, "goroutine ") {
				t.Errorf("nat64d panicked: %s", said)
			}
		})
	}
	if got := tables(t, l); len(got) != 0 {
		t.Errorf("nftables tables remain: %q", got)
	}
}

// nat64ctl with a running gateway: exit codes, output on the right stream, and the effects of commands.
func TestControl(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, sparePool)
	serveEcho(t, l)
	t.Run("exit codes", func(t *testing.T) { checkExitCodes(t, g) })
	t.Run("pool4", func(t *testing.T) { checkPool4(t, g) })
	t.Run("listings", func(t *testing.T) { checkListings(t, g) })
	t.Run("pause", func(t *testing.T) { checkPause(t, g) })
	t.Run("empty pool", func(t *testing.T) { checkEmptyPool(t, g) })
	t.Run("flood of connections", func(t *testing.T) { checkControlFlood(t, g) })
	g.stop()
}

func checkExitCodes(t *testing.T, g *daemon) {
	for _, c := range []struct {
		code int
		args []string
		want string // on standard output if the code is 0, otherwise on standard error
	}{
		{0, []string{"version"}, ""},
		{0, []string{"status"}, "ready"},
		{0, []string{"pool6", "list"}, lab.Prefix6},
		{0, []string{"completion", "bash"}, "nat64ctl"},
		{0, []string{"stats", "--all"}, "no free port is left in pool4"},
		{1, []string{"pool4", "add", "192.0.2.64", "8000-7000"}, "8000-7000"},
		{1, []string{"pool4", "add", "192.0.2.64", "0-10", "--tcp"}, "0"},
		{1, []string{"pool4", "remove", "203.0.113.9", "7000"}, "203.0.113.9"},
		{2, []string{"pool4", "add"}, ""},
		{2, []string{"pool4", "list", "-o", "xml"}, "json"},
		{2, []string{"statsu"}, "stats"},
		{2, []string{"status", "--nope"}, "--nope"},
	} {
		out, errs, code := g.ctl(c.args...)
		if code != c.code {
			t.Errorf("nat64ctl %v: exit code %d, want %d; %s", c.args, code, c.code, errs)
		}
		said := out
		if c.code != 0 {
			said = errs
			if out != "" || errs == "" {
				t.Errorf("nat64ctl %v: a refusal belongs on standard error; standard output has %q", c.args, out)
			}
		}
		if !strings.Contains(said, c.want) {
			t.Errorf("the output of nat64ctl %v, %q, lacks %q", c.args, said, c.want)
		}
	}
	if _, errs, code := nat64ctl(t, "--socket", "/nonexistent.sock", "status"); code != 3 || !strings.Contains(errs, "/nonexistent.sock") {
		t.Errorf("no daemon: exit code %d, want 3, and %q must name the socket", code, errs)
	}
}

func checkPool4(t *testing.T, g *daemon) {
	if out := g.must("pool4", "add", "192.0.2.65", "7000-8000"); !strings.Contains(out, "tcp, udp and icmp") {
		t.Errorf("the output does not name the protocols: %q", out)
	}
	if out := g.must("pool4", "add", "192.0.2.65", "7500-9000"); !strings.Contains(out, "now one range: 192.0.2.65 7000-9000") {
		t.Errorf("the output does not mention the merged ranges: %q", out)
	}
	find := func() map[string]string {
		var all []control.Pool4Entry
		decode(t, g.must("pool4", "list", "-o", "json"), &all)
		ports := map[string]string{}
		for _, e := range all {
			if e.Address.String() == "192.0.2.65" {
				ports[e.Protocol] += e.Ports + " "
			}
		}
		return ports
	}
	for _, p := range []string{"tcp", "udp", "icmp"} {
		if got := find()[p]; got != "7000-9000 " {
			t.Errorf("%s has %q, want one range 7000-9000", p, got)
		}
	}
	g.must("pool4", "remove", "192.0.2.65", "7000-9000")
	if got := find(); len(got) != 0 {
		t.Errorf("still present after the removal: %v", got)
	}
}

func checkListings(t *testing.T, g *daemon) {
	c, err := open(g.lab, "tcp", 0, 20000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, what := range []string{"bib", "session"} {
		table := g.must(what, "list")
		if !strings.Contains(table, "["+lab.Client6+"]:20000") || !strings.Contains(table, lab.Spare4+":") {
			t.Errorf("%s list lacks the connection:\n%s", what, table)
		}
		rows, err := csv.NewReader(strings.NewReader(g.must(what, "list", "-o", "csv"))).ReadAll()
		if err != nil || len(rows) < 2 {
			t.Errorf("%s list -o csv: want a header and rows, got %q, %v", what, rows, err)
		}
	}
	var sessions []control.Session
	decode(t, g.must("session", "list", "--tcp", "-o", "json"), &sessions)
	for _, s := range sessions {
		if s.Client.String() == "["+lab.Client6+"]:20000" {
			if s.State != "ESTABLISHED" || s.Peer.String() != lab.Server4+":7" || s.Peer6.String() != target+":7" {
				t.Errorf("session %+v", s)
			}
			return
		}
	}
	t.Errorf("no session of the connection among %d", len(sessions))
}

func checkPause(t *testing.T, g *daemon) {
	g.must("pause")
	if _, err := g.lab.Client.Ping(limit(t, 300*time.Millisecond), lab.Server4As6, 1, 8); err == nil {
		t.Error("got a reply while translation is paused")
	}
	if !g.status().Paused || g.dropped("paused") == 0 {
		t.Error("the status does not show the pause, or the drop is not counted")
	}
	for _, format := range []string{"table", "csv", "json"} {
		if out, errs, code := g.ctl("health", "-o", format); code != 1 || errs != "" || !strings.Contains(out, "nat64ctl resume") {
			t.Errorf("health -o %s while paused: exit code %d, %q, %q", format, code, out, errs)
		}
	}
	g.must("resume")
	if out := g.must("health"); !strings.HasPrefix(out, "ready\n") {
		t.Errorf("health: %q", out)
	}
	checkPing(t, g.lab)
}

// checkEmptyPool removes all addresses from the gateway: it keeps running, is not ready, and refuses flows.
func checkEmptyPool(t *testing.T, g *daemon) {
	g.must("pool4", "flush", "--yes")
	if s := g.status(); s.Ready || len(s.NotReady) == 0 {
		t.Errorf("ready %v with an empty pool4, %q", s.Ready, s.NotReady)
	}
	if _, err := open(g.lab, "tcp", 0, 0); !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("got %v, want %v", err, syscall.EHOSTUNREACH)
	}
	g.must("pool4", "add", lab.Spare4, "7000-8000")
	checkPing(t, g.lab)
}

// checkControlFlood keeps hundreds of connections to the control socket open, some with half a request, some with an
// unread answer. nat64ctl is another process, and still works.
func checkControlFlood(t *testing.T, g *daemon) {
	for i := range 300 {
		c, err := net.Dial("unix", g.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			continue
		}
		request := []string{"GET /v1/st", "GET /v1/stats HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", "GET /v1/stats HTTP/1.1\r\nHost: x\r\n\r\n"}[i/2%3]
		_, _ = io.WriteString(c, request) // fails if newer connections have displaced this one
	}
	if out, errs, code := g.ctl("status", "--timeout", "5s"); code != 0 {
		t.Errorf("nat64ctl status: exit code %d, %s%s", code, out, errs)
	}
}

// The demonstration shows its traffic, continues until it is interrupted, and cleans up.
func TestDemo(t *testing.T) {
	showDemo(t, []string{"ping 64:ff9b::c000:202", "SHA-256 right", "curl http://v4only.example/", lab.Greeting, "TCP up, through nat64d", "bit/s",
		"$ nat64ctl session list", "192.0.2.1:7", "ip netns exec", "All of it is removed again."}, "--hold", "--seconds", "1")
}

// The demonstration on a node shows that everything on the node is served, that connections survive a crash, and that
// nothing is left on it.
func TestDemoNode(t *testing.T) {
	showDemo(t, []string{"kernel alone, to compare: TCP down to a pod", "on the node: ping, curl", "in a pod: ping, curl", "on the LAN: ping, curl",
		"TCP down to the node, through nat64d", "SHA-256 right", "TCP continues, pause", "10.64.64.64:8080", "rules and settings are gone.",
		"All of it is removed again."}, "node", "--seconds", "0.2")
}

// showDemo runs nat64d demo, interrupts it where it says how to, and looks for texts in its output.
func showDemo(t *testing.T, wants []string, args ...string) {
	t.Helper()
	p := binaries(t)
	cmd := exec.Command(p.nat64d, append([]string{"demo"}, args...)...)
	var errs journal
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if lines.Text() == "Ctrl-C ends it." {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("nat64d demo: %v\n%s%s", err, said.String(), errs.String())
	}
	for _, want := range wants {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the output lacks %q", want)
		}
	}
	left, err := filepath.Glob(fmt.Sprintf("/run/netns/nat64lab-%d-*", cmd.Process.Pid))
	if err != nil || len(left) != 0 {
		t.Errorf("namespaces remain: %q (%v)", left, err)
	}
	if t.Failed() {
		t.Log(said.String())
	}
}
