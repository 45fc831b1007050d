//go:build long

package test

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// With a million sessions, counts, filtered and sorted listings and top answer within a second each, and a whole listing in csv
// takes less than 50 MiB of memory of nat64d and of nat64ctl.
func TestLongListingsOfMillionSessions(t *testing.T) {
	const sessions, most = 1_000_000, 50 << 20
	l := network(t, lab.Options{})
	ips(t, l.Gateway, "-6 route add "+manyClients+" via "+lab.Client6+" dev "+l.NIC6, "route add 203.0.113.0/24 via "+lab.Server4)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: 198.51.100.0/28 } ]
bib: [ { proto: udp, v4: "198.51.100.1:80", v6: "[%s]:80" } ]
sessions: { max_inbound_per_binding: 1000000, max_inbound_per_client: 1000000 }
`, lab.Client6))
	fillTables(t, l, g, sessions)
	for _, c := range []string{
		"session list --count", "session list --count --state v6-init", "session list --client 2001:db8:9::5 --no-headers", "session list --tcp --port 80 --peer 192.0.2.0/24",
		"session list --sort -expires --limit 10", "bib list --count", "pool4 usage", "top -n 1 -d 100ms",
	} {
		best := time.Hour
		for range 5 { // other programs use the processors, too
			began := time.Now()
			g.must(strings.Fields(c)...)
			best = min(best, time.Since(began))
		}
		t.Logf("| `%s` | %v |", c, best.Round(time.Millisecond))
		if best > time.Second {
			t.Errorf("nat64ctl %s takes %v", c, best)
		}
	}
	lines, grown, own := listAll(t, g)
	t.Logf("a listing of %d lines takes %d MiB of nat64d and %d MiB of nat64ctl", lines, grown>>20, own>>20)
	if lines < sessions*8/10 || // pings have ended meanwhile
		grown > most || own > most {
		t.Errorf("a listing of %d lines takes %d bytes of nat64d and %d of nat64ctl", lines, grown, own)
	}
	g.stop()
}

// listAll lists all sessions in csv, and returns the number of lines, the most memory that nat64d has taken meanwhile in addition,
// and that of nat64ctl.
func listAll(t *testing.T, g *daemon) (lines, grown, own int) {
	t.Helper()
	_, before := taken(t, g.cmd.Process.Pid)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binaries(t).nat64ctl, "--socket", g.socket, "session", "list", "-o", "csv", "--no-headers")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for read := 0; ; read++ {
		n, err := out.Read(buf)
		lines += strings.Count(string(buf[:n]), "\n")
		if read%100 == 0 {
			_, now := taken(t, g.cmd.Process.Pid)
			grown = max(grown, now-before)
			if nice := niceness(t, cmd.Process.Pid); nice == 0 {
				t.Error("nat64ctl lists with the usual priority")
			}
			_, mine := taken(t, cmd.Process.Pid)
			own = max(own, mine)
		}
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return lines, grown, own
}

// niceness returns the nice value of a process.
func niceness(t *testing.T, pid int) int {
	t.Helper()
	n, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	if err != nil {
		t.Fatal(err)
	}
	return 20 - n
}
