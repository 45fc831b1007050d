//go:build linux

package daemon

import (
	"bytes"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/ops/control"
)

// perSession is about what a TCP connection with a binding of its own takes in the tables, in bytes.
const perSession = 128

// memory compares the memory in use with memory_limit. One goroutine calls scarce; any goroutine may call the other methods.
type memory struct {
	log      *slog.Logger
	statm    *os.File     // stays open: the process may lose the right to open it
	machine  int64        // what auto stands for
	sessions int          // sessions.max
	live     func() int   // sessions in the table
	limit    atomic.Int64 // in bytes
	auto     atomic.Bool
	low      atomic.Bool // the last result of scarce
	flood    flood
	freed    time.Time // when scarce last had Go's runtime give memory back
}

// flood notices the end of a flood of sessions. Only scarce uses it.
type flood struct {
	most int       // sessions since the last end of a flood
	over time.Time // when the flood was over; zero: it is not
}

// Our own choices: the number of sessions of a flood, the time in which the tables give its memory back, and the interval in which
// Go's runtime does so while memory is scarce.
const (
	floodSessions = 1 << 16
	floodRest     = 30 * time.Second
	freeEvery     = 10 * time.Second
)

// ended reports, once after a flood, that most of its sessions have ended some time ago.
func (f *flood) ended(sessions int, now time.Time) bool {
	f.most = max(f.most, sessions)
	switch {
	case f.most < floodSessions || sessions > f.most/4:
		f.over = time.Time{}
	case f.over.IsZero():
		f.over = now
	case now.Sub(f.over) >= floodRest:
		*f = flood{most: sessions}
		return true
	}
	return false
}

// newMemory returns the memory with the limit of the configuration, in which 0 is auto.
func newMemory(limit, sessions int, live func() int, log *slog.Logger) (*memory, error) {
	statm, err := os.Open("/proc/self/statm")
	if err != nil {
		return nil, err
	}
	m := &memory{log: log, statm: statm, machine: automaticLimit(), sessions: sessions, live: live}
	m.configure(limit)
	return m, nil
}

// configure replaces the limit. Go's runtime collects garbage more often from three quarters of the limit on: the tables, which
// it does not see, take more than the other quarter when memory is scarce.
func (m *memory) configure(limit int) {
	n := int64(limit)
	if n == 0 {
		n = m.machine
	}
	m.auto.Store(limit == 0)
	m.limit.Store(n)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(n / 4 * 3)
	}
}

// used returns the resident memory of the process, pages of tmpfs files and packet rings included, or 0 if the kernel does not
// tell it.
func (m *memory) used() int64 {
	var b [128]byte
	n, _ := m.statm.ReadAt(b[:], 0) // io.EOF, since the file is shorter
	fields := bytes.Fields(b[:n])
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// stop is the use from which on memory is scarce: the tables may grow by 16 MiB between two calls of scarce. resume is the use
// below which memory is no longer scarce.
func (m *memory) stop() int64 {
	limit := m.limit.Load()
	return limit - max(limit/16, 16<<20)
}
func (m *memory) resume() int64 { return m.stop() - m.limit.Load()/16 }

// scarce reports whether the use is near the limit. It is called often. While memory is scarce, and after a flood, it makes Go's
// runtime give its free memory back at once, which it does by itself only in the course of some garbage collections.
func (m *memory) scarce() bool {
	if now := time.Now(); m.flood.ended(m.live(), now) || m.low.Load() && now.Sub(m.freed) >= freeEvery {
		m.freed = now
		go debug.FreeOSMemory() // takes some milliseconds
	}
	switch used, low := m.used(), m.low.Load(); {
	case !low && used >= m.stop():
		m.low.Store(true)
		m.log.Warn("memory is scarce, refusing new sessions unless another has ended; see memory_limit", "used_MiB", used>>20, "limit_MiB", m.limit.Load()>>20)
	case low && used < m.resume():
		m.low.Store(false)
		m.log.Info("memory is no longer scarce", "used_MiB", used>>20, "limit_MiB", m.limit.Load()>>20)
	}
	return m.low.Load()
}

// room returns about how many sessions fit into the limit, at most sessions.max.
func (m *memory) room() int {
	more := max(m.stop()-m.used(), 0) / perSession
	return min(m.live()+int(more), m.sessions)
}

func (m *memory) status() control.Memory {
	return control.Memory{Used: m.used(), Limit: m.limit.Load(), Auto: m.auto.Load(), Scarce: m.low.Load(), Sessions: m.room(), MaxSessions: m.sessions}
}

// warn logs that the limit has no room for sessions.max.
func (m *memory) warn() {
	if n := m.room(); n < m.sessions {
		m.log.Warn("memory_limit is too low for sessions.max: further sessions are refused", "limit_MiB", m.limit.Load()>>20, "sessions", n, "sessions.max", m.sessions)
	}
}

// automaticLimit returns seven eighths of the memory of the machine or, if less, of the cgroup of the process. The kernel needs the
// rest, for packets in its queues among others.
func automaticLimit() int64 {
	least := int64(math.MaxInt64)
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		least = int64(uint64(info.Totalram) * uint64(info.Unit))
	}
	groups, _ := os.ReadFile("/proc/self/cgroup") // without cgroups there is no such file
	return min(least, cgroupLimit(os.DirFS("/sys/fs/cgroup"), string(groups))) / 8 * 7
}

// cgroupLimit returns the lowest memory limit of the cgroups in the text of /proc/self/cgroup and of their ancestors, or
// math.MaxInt64. In root, cgroups of version 2 are mounted at ".", those of version 1 at "memory".
func cgroupLimit(root fs.FS, groups string) int64 {
	least := int64(math.MaxInt64)
	for line := range strings.Lines(groups) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7): hierarchy-ID:controller-list:cgroup-path
		if len(part) != 3 {
			continue
		}
		mount, file := ".", "memory.max"
		if part[1] != "" {
			mount, file = "memory", "memory.limit_in_bytes"
			if !strings.Contains(","+part[1]+",", ",memory,") {
				continue
			}
		}
		for dir := path.Clean("/" + part[2]); ; dir = path.Dir(dir) {
			least = min(least, limitIn(root, path.Join(mount, dir, file)))
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// limitIn returns the number in a file, or math.MaxInt64 without a limit: the file does not exist, or contains max.
func limitIn(root fs.FS, file string) int64 {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return math.MaxInt64
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil || n <= 0 {
		return math.MaxInt64
	}
	return n
}
