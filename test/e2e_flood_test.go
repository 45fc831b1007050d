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

// The resources that DNS64 may use in a flood, with its defaults: a socket for each pending question, and memory for
// two full caches and those questions.
const (
	floodFiles  = 2048 + 100
	floodMemory = 256 << 20
)

// During a flood of questions for random names that upstreams do not answer, memory and sockets stay bounded, and
// cached names are still answered. NAT64D_FLOOD is the duration, such as 10m.
func TestDNS64Flood(t *testing.T) {
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

// The gateway still forwards packets while its DNS64 is flooded, because packets have their own threads and buffers.
func TestForwardingDuringDNS64Flood(t *testing.T) {
	const lasts, datagrams = 4 * time.Second, 2000
	l := network(t, lab.Options{})
	_ = listenUDP(t, l.Server, lab.Server4+":53") // an upstream that does not answer
	g := startConfig(t, l, "pool4: [ { address: "+lab.Spare4+", ports: 1024-65535 } ]\n"+
		strings.Replace(alone64(", rate_per_second: 0"), "{", "{ enabled: true,", 1))
	serveEcho(t, l)
	c, err := l.Client.Dial(limit(t, time.Minute), "udp", target+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, startWithin, "a datagram is echoed", func() error { return exchange(c, 0) })
	var asked atomic.Int64
	done := make(chan error, 1)
	go func() { done <- floodNames(t, l, time.Now().Add(lasts), &asked) }()
	echoed := make(chan int)
	go func() {
		n, b := 0, make([]byte, 8)
		for n < datagrams {
			if _, err := c.Read(b); err != nil {
				break
			}
			n++
		}
		echoed <- n
	}()
	_ = c.SetDeadline(time.Now().Add(lasts + time.Second))
	tick := time.NewTicker(lasts / datagrams)
	defer tick.Stop()
	for range datagrams {
		<-tick.C
		_, _ = c.Write(make([]byte, 8)) // lost datagrams are counted at the end
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	n := <-echoed
	t.Logf("%d names, %d of %d datagrams were echoed", asked.Load(), n, datagrams)
	if dropped := g.dropped("ring"); n < datagrams*99/100 || dropped > 0 {
		t.Errorf("%d of %d datagrams were echoed, %d dropped by a full ring, during %d questions", n, datagrams, dropped, asked.Load())
	}
	if !strings.Contains(g.must("stats"), "nat64_dns64_busy_total") {
		t.Errorf("the load was too low for a flood:\n%s", g.must("stats"))
	}
	g.stop()
}

// floodNames asks for another name in each packet until the end.
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
		_, _ = c.Write(b) // excess packets may be lost
		if asked.Load()%100 == 0 {
			time.Sleep(time.Millisecond) // leave time for other processes
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
