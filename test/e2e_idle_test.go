package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// A gateway without traffic hardly wakes up: all threads together, the runtime's monitor included. A worker that returns from a
// system call ten times a second causes 900 to 1500 wake-ups a second.
func TestIdleDaemonHardlyWakes(t *testing.T) {
	const (
		watched = 1500 * time.Millisecond
		wakes   = 20  // a second
		share   = 0.2 // percent of a processor; on a loaded machine, a wake-up takes twice as long as on a quiet one
	)
	for _, polling := range []string{"auto", "1ms"} {
		t.Run("busy_poll "+polling, func(t *testing.T) {
			l := network(t, lab.Options{})
			g := start(t, l, sparePool, "-c", write(t, t.TempDir(),
				"interfaces: { busy_poll: "+polling+" }\n"))
			eventually(t, 40*time.Second, "an idle daemon hardly wakes up", func() error {
				switches, used := g.switches(), g.processorTime()
				start := time.Now()
				time.Sleep(watched)
				took := time.Since(start).Seconds()
				perSecond := float64(g.switches()-switches) / took
				percent := 100 * (g.processorTime() - used).Seconds() / took
				if perSecond > wakes || percent > share {
					return fmt.Errorf("%.1f wake-ups a second, %.3f %% of a processor", perSecond, percent)
				}
				return nil
			})
		})
	}
}

// switches returns the number of context switches of all threads of the daemon.
func (g *daemon) switches() (n int) {
	g.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			g.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			if strings.HasSuffix(name, "voluntary_ctxt_switches") {
				v, err := strconv.Atoi(strings.TrimSpace(value))
				if err != nil {
					g.t.Fatal(err)
				}
				n += v
			}
		}
	}
	return n
}

// processorTime returns the processor time that the daemon has used, by the clock of its process (see
// clock_getcpuclockid(3)).
func (g *daemon) processorTime() time.Duration {
	g.t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^g.cmd.Process.Pid<<3|2), &ts); err != nil {
		g.t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
