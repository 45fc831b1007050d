package test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nat64d/lab"
)

// What DNS64 may take in a flood, with its defaults: a socket for each question that may be under way, and the memory of two
// full caches and of those questions.
const (
	floodFiles  = 2048 + 100
	floodMemory = 256 << 20
)

// Nothing grows without bound while many names are asked for that nobody has asked for, and upstreams say nothing; and what
// is known is still answered. NAT64D_FLOOD is for how long, such as 10m.
func TestDNS64InAFlood(t *testing.T) {
	lasts, err := time.ParseDuration(cmp.Or(os.Getenv("NAT64D_FLOOD"), "8s"))
	if err != nil {
		t.Fatal(err)
	}
	l := network(t, lab.Options{})
	silent, err := l.Server.ListenPacket("udp", lab.Server4+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cmd, log := startAlone(t, l, write(t, t.TempDir(), configHead(l, socketPath(t))+alone64(", rate_per_second: 0")))
	expect64(t, l, log, lab.Client6, ipv4only64)
	var asked atomic.Int64
	end := time.Now().Add(lasts)
	done := make(chan error, 1)
	go func() { done <- floodNames(t, l, end, &asked) }()
	var files, memory int
	for time.Now().Before(end) {
		f, m := taken(t, cmd.Process.Pid)
		files, memory = max(files, f), max(memory, m)
		expect64(t, l, log, lab.Client6, ipv4only64)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	t.Logf("%d names in %v: %d files and %d MiB at most", asked.Load(), lasts, files, memory>>20)
	if files > floodFiles || memory > floodMemory || files < 500 {
		t.Errorf("%d files and %d MiB were taken, want 500 to %d and up to %d", files, memory>>20, floodFiles, floodMemory>>20)
	}
}

// floodNames asks for another name with each packet until the end.
func floodNames(t *testing.T, l *lab.Lab, end time.Time, asked *atomic.Int64) error {
	c, err := l.Client.Dial(t.Context(), "udp", "["+lab.Gateway6+"]:53")
	if err != nil {
		return err
	}
	defer c.Close()
	for time.Now().Before(end) {
		b, err := new(dns.Msg).SetQuestion(fmt.Sprintf("%d.example.net.", asked.Add(1)), dns.TypeAAAA).Pack()
		if err != nil {
			return err
		}
		_, _ = c.Write(b) // a packet too many is lost
		if asked.Load()%100 == 0 {
			time.Sleep(time.Millisecond) // the rest of the machine has something to do, too
		}
	}
	return nil
}

// taken returns how many files a process has open, and how many bytes it has in memory.
func taken(t *testing.T, pid int) (files, memory int) {
	t.Helper()
	proc := filepath.Join("/proc", fmt.Sprint(pid))
	open, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	kilobytes, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		t.Fatal(err)
	}
	return len(open), kilobytes << 10
}
