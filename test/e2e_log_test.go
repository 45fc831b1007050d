package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/ops/control"
)

// pipe creates a named pipe for the log of nat64d, and returns its reading end.
func pipe(t *testing.T) (path string, end *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, readEnd(t, path)
}

func readEnd(t *testing.T, path string) *os.File {
	t.Helper()
	end, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // in blocking mode it would wait for a writer
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { end.Close() })
	return end
}

// startInto runs nat64d with its log in a file or a pipe. It becomes ready even if the log is not read.
func startInto(t *testing.T, l *lab.Lab, path, yaml string) *daemon {
	t.Helper()
	log, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	socket := socketPath(t)
	g := launchInto(t, l, log, binaries(t).nat64d, socket, "-c", write(t, t.TempDir(), configHead(l, socket)+yaml))
	eventually(t, startWithin, "nat64d is ready", func() error {
		if out, errs, code := g.ctl("status", "-o", "json"); code != 0 || !strings.Contains(out, `"ready": true`) {
			return fmt.Errorf("%s%s", out, errs)
		}
		return nil
	})
	return g
}

// sendFlows sends a datagram from the client to each of n ports.
func sendFlows(t *testing.T, l *lab.Lab, n int) {
	t.Helper()
	err := l.Client.Do(func() error {
		c, err := net.ListenUDP("udp6", nil)
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range n {
			if _, err := c.WriteToUDP([]byte("x"), &net.UDPAddr{IP: net.ParseIP(lab.Server4As6), Port: 1024 + i}); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// linesLost returns the counter of lost lines.
func (g *daemon) linesLost() uint64 {
	g.t.Helper()
	var all []control.Counter
	decode(g.t, g.must("stats", "--all", "-o", "json"), &all)
	for _, c := range all {
		if c.Name == "nat64_log_events_dropped_total" && c.Labels["sink"] == "log" {
			return c.Value
		}
	}
	g.t.Fatalf("no counter of lost lines among %d", len(all))
	return 0
}

// If the reader of the log stops reading, packets, the control socket and the end of the process are not delayed.
func TestStoppedLogReader(t *testing.T) {
	l := network(t, lab.Options{})
	path, _ := pipe(t)
	g := startInto(t, l, path, "pool4: [ { address: 192.0.2.1, ports: 7000-8000 } ]\nnat_log: { events: session }\nlogging: { level: error }\n")
	sendFlows(t, l, 800) // about 200 KiB of log; a pipe buffers 64 KiB
	checkPing(t, l)
	eventually(t, 5*time.Second, "the status has a warning", func() error {
		w := g.status().Warnings
		if !slices.ContainsFunc(w, func(w string) bool { return strings.HasPrefix(w, "the log cannot be written") }) {
			return fmt.Errorf("%q", w)
		}
		return nil
	})
	g.must("pool4", "add", lab.Spare4, "9000")
	if s := g.status(); !s.Ready {
		t.Errorf("not ready: %q", s.NotReady)
	}
	began := time.Now()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("it took %v to end", took)
	}
	checkNothingLeft(t, l)
}

// checkNothingLeft expects that nat64d has cleaned up.
func checkNothingLeft(t *testing.T, l *lab.Lab) {
	t.Helper()
	if got := tables(t, l); len(got) != 0 {
		t.Errorf("nftables tables are left: %q", got)
	}
	if got, err := l.Gateway.Sysctl(reservedPorts); err != nil || got != "" {
		t.Errorf("%s is %q (%v)", reservedPorts, got, err)
	}
}

// If the reader of the log dies, nat64d continues. It counts lost lines, and reports their number to the next reader.
func TestDeadLogReader(t *testing.T) {
	l := network(t, lab.Options{})
	path, end := pipe(t)
	g := startInto(t, l, path, "pool4: [ { address: 192.0.2.1, ports: 7000-8000 } ]\nnat_log: { events: session }\nlogging: { level: error, format: json }\n")
	end.Close()
	sendFlows(t, l, 10)
	eventually(t, 5*time.Second, "11 lines are lost", func() error {
		if n := g.linesLost(); n != 11 { // a binding and 10 sessions
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
	checkPing(t, l)
	g.must("pool4", "add", lab.Spare4, "9000-9010")
	lost := g.linesLost()

	next := bufio.NewScanner(readEnd(t, path))
	var notice struct {
		Message string `json:"msg"`
		Lines   uint64 `json:"lines"`
	}
	eventually(t, 5*time.Second, "the new reader gets the number of lost lines", func() error {
		if !next.Scan() {
			next = bufio.NewScanner(readEnd(t, path))
			return errors.New("nothing is written")
		}
		return json.Unmarshal(next.Bytes(), &notice)
	})
	if !strings.Contains(notice.Message, "lost") || notice.Lines != lost {
		t.Errorf("got %+v, want %d lost lines", notice, lost)
	}
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
	checkNothingLeft(t, l)
}

// The log in JSON has the same words as in text.
func TestLogInJSON(t *testing.T) {
	l := network(t, lab.Options{})
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g := startInto(t, l, path, "pool4: [ { address: 192.0.2.1, ports: 7000-8000 } ]\nnat_log: { events: session }\nlogging: { format: json }\n")
	sendFlows(t, l, 1)
	checkPing(t, l)
	g.stop()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"msg":"ready"`, `"pool6":["64:ff9b::/96"]`, `"msg":"binding made","protocol":"udp","client":"2001:db8:1::2","client_port":`,
		`"msg":"session made","protocol":"icmp"`, `"peer":"192.0.2.2","peer_port":1024`, `"msg":"stopped"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	if strings.Contains(string(text), "{}") || t.Failed() {
		t.Errorf("the log is\n%s", text)
	}
}
