package session_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
)

// scales are the sizes of tables. From 1M on a benchmark takes seconds and hundreds of megabytes, with 4M and 10M a
// gigabyte or two; name the one you want: -bench Lookup/4M.
var scales = []struct {
	name string
	n    int
}{{"1k", 1_000}, {"100k", 100_000}, {"1M", 1_000_000}, {"4M", 4_000_000}, {"10M", 10_000_000}}

// large returns a gateway for n TCP connections, each through a binding of its own.
func large(b testing.TB, n int) *gateway {
	addrs := 1 + n/50_000
	pool := fmt.Sprintf("198.18.0.0-198.18.%d.%d", addrs/256, addrs%256)
	return newGateway(b, 1, n+n/8+1000, defaults, pool, "1024-65535")
}

// establish makes connection number i of a gateway and returns its IPv4 side.
func (g *gateway) establish(b testing.TB, i int) packet.Endpoint4 {
	at, r := g.from6(packet.TCP, flowOf(uint32(i)), server, packet.SYN, 0)
	if r != drop.None {
		b.Fatal(r)
	}
	g.from4(packet.TCP, server, at, packet.SYN, 0)
	return at
}

// crowd is a gateway with n connections, in an order in which no cache expects them.
type crowd struct {
	*gateway
	six  []uint32 // flows
	four []packet.Endpoint4
	next int

	flows [ahead]session.Flow // of a batch
	hints [ahead]session.Hint
}

func newCrowd(b testing.TB, n int) *crowd {
	c := &crowd{gateway: large(b, n), six: make([]uint32, n), four: make([]packet.Endpoint4, n)}
	for i := range n {
		c.six[i], c.four[i] = uint32(i), c.establish(b, i)
		if i%32768 == 0 {
			c.sessions.Maintain() // as the gateway does now and then
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	r.Shuffle(n, func(i, j int) {
		c.six[i], c.six[j] = c.six[j], c.six[i]
		c.four[i], c.four[j] = c.four[j], c.four[i]
	})
	for range 3 {
		c.sessions.Maintain() // gives back what growth has left
	}
	c.epochs.Enter(0)
	return c
}

// ahead is a batch of packets, or a shorter one at the end of a round.
const ahead = 64

func (c *crowd) batch() (from, to int) {
	if c.next >= len(c.six) {
		c.next = 0
	}
	from, c.next = c.next, c.next+ahead
	return from, min(c.next, len(c.six))
}

func (c *crowd) alone6() (n int) {
	f := session.Flow{Proto: packet.TCP, Remote: server}
	from, to := c.batch()
	for _, i := range c.six[from:to] {
		putFlow(&f.Client, i)
		if r := c.sessions.From6(&f, &session.Packet{Event: packet.Other}); r == drop.None {
			n++
		}
	}
	return n
}

func (c *crowd) alone4() (n int) {
	f := session.Flow{Proto: packet.TCP, Remote: server}
	from, to := c.batch()
	for _, f.Mapped = range c.four[from:to] {
		if r := c.sessions.From4(&f, &session.Packet{Event: packet.Other}); r == drop.None {
			n++
		}
	}
	return n
}

func (c *crowd) staged6() (n int) {
	flows, hints := &c.flows, &c.hints
	from, to := c.batch()
	for i, f := range c.six[from:to] {
		flows[i].Proto, flows[i].Remote = packet.TCP, server
		putFlow(&flows[i].Client, f)
	}
	c.sessions.Ahead6(flows[:to-from], hints[:])
	for i := range flows[:to-from] {
		f := &flows[i]
		if r := c.sessions.From6(f, &session.Packet{Event: packet.Other, Hint: &hints[i]}); r == drop.None {
			n++
		}
	}
	return n
}

func (c *crowd) staged4() (n int) {
	flows, hints := &c.flows, &c.hints
	from, to := c.batch()
	for i, at := range c.four[from:to] {
		flows[i] = session.Flow{Proto: packet.TCP, Remote: server, Mapped: at}
	}
	c.sessions.Ahead4(flows[:to-from], hints[:])
	for i := range flows[:to-from] {
		f := &flows[i]
		if r := c.sessions.From4(f, &session.Packet{Event: packet.Other, Hint: &hints[i]}); r == drop.None {
			n++
		}
	}
	return n
}

var lookups = []struct {
	name string
	run  func(*crowd) int
}{{"from6/alone", (*crowd).alone6}, {"from6/staged", (*crowd).staged6}, {"from4/alone", (*crowd).alone4}, {"from4/staged", (*crowd).staged4}}

// BenchmarkLookup is the two look-ups of a packet, one packet after the other and staged over a batch.
func BenchmarkLookup(b *testing.B) {
	for _, s := range scales {
		b.Run(s.name, func(b *testing.B) {
			c := newCrowd(b, s.n)
			for _, l := range lookups {
				b.Run(l.name, func(b *testing.B) {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					b.ReportAllocs()
					n, start := 0, threadTime(b)
					for b.Loop() {
						n += l.run(c)
					}
					b.ReportMetric(float64((threadTime(b)-start).Nanoseconds())/float64(n), "cpu-ns/packet")
				})
			}
		})
	}
}

func TestStagedLookupDoesNotAllocate(t *testing.T) {
	c := newCrowd(t, 2*ahead)
	for _, l := range lookups {
		found := 0
		if n := testing.AllocsPerRun(100, func() { found = l.run(c) }); n != 0 || found != ahead {
			t.Errorf("%s: %v allocations, %d of %d found", l.name, n, found, ahead)
		}
	}
}

// BenchmarkFill fills a table and reports the cost of insertions, memory and garbage collection. It also reports the
// longest insertion in processor time, which excludes other programs on the machine, but not the host of a virtual
// machine; for comparison, it reports the longest iteration of an empty loop of the same duration.
func BenchmarkFill(b *testing.B) {
	for _, s := range scales[2:] {
		b.Run(s.name, func(b *testing.B) {
			for b.Loop() {
				before := resident(b)
				g := large(b, s.n)
				stop := g.maintain()
				start := time.Now()
				wall, cpu := longest(b, func(i int) (more bool) {
					g.establish(b, i)
					return i+1 < s.n
				})
				took := time.Since(start)
				stop()
				start = time.Now()
				_, still := longest(b, func(int) (more bool) { return time.Since(start) < took })
				b.ReportMetric(float64(resident(b)-before)/float64(s.n), "B/connection")
				b.ReportMetric(float64(wall.Nanoseconds()), "max-ns")
				b.ReportMetric(float64(cpu.Nanoseconds()), "max-cpu-ns")
				b.ReportMetric(float64(still.Nanoseconds()), "still-max-cpu-ns")
				b.ReportMetric(float64(took.Nanoseconds())/float64(s.n), "ns/connection")
				reportGC(b)
				runtime.KeepAlive(g)
			}
		})
	}
}

// maintain sweeps and maintains ten times a second, as the gateway does, and three more times when it is stopped.
func (g *gateway) maintain() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	sweep := func() {
		for g.sessions.Sweep(0, 4096, func(session.Probe) {}) {
		}
		g.sessions.Maintain()
	}
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				sweep()
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
		for range 3 {
			sweep()
		}
	}
}

// longest calls f, with the number of the call, while it says so, and returns how long the longest call took.
func longest(b *testing.B, f func(i int) (more bool)) (wall, cpu time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	more := true
	for i := 0; more; i++ {
		start, used := time.Now(), threadTime(b)
		more = f(i)
		cpu = max(cpu, threadTime(b)-used)
		wall = max(wall, time.Since(start))
	}
	return wall, cpu
}

// reportGC reports the longest pause of some cycles, and their share of the processors while a megabyte of garbage
// comes each millisecond, more than the control plane makes.
func reportGC(b *testing.B) {
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	first := stats.NumGC
	spent, total := gcTime()
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		garbage = make([]byte, 1<<20)
	}
	runtime.GC() // brings the metrics up to date
	spent2, total2 := gcTime()
	debug.ReadGCStats(&stats)
	longest := time.Duration(0)
	for _, p := range stats.Pause[:min(int(stats.NumGC-first), len(stats.Pause))] {
		longest = max(longest, p)
	}
	b.ReportMetric(float64(longest.Nanoseconds()), "gc-pause-ns")
	b.ReportMetric(100*(spent2-spent)/(total2-total), "gc-cpu-%")
}

var garbage []byte

func gcTime() (spent, total float64) {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64()
}

// threadTime returns the processor time of this thread.
func threadTime(b *testing.B) time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// resident returns the memory that the process has, in bytes: tables are not on Go's heap.
func resident(b *testing.B) (bytes int) {
	debug.FreeOSMemory()
	f, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, pages int
	if _, err := fmt.Sscan(string(f), &size, &pages); err != nil {
		b.Fatal(err)
	}
	return pages * os.Getpagesize()
}
