package main

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/test/dissect"
)

// TestMain makes the test binary act as its own tools, like the program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == toolArgument {
		if err := run(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var (
	fromMAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	toMAC   = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func TestFrameChecksums(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from, to string
		last     [3]string
	}{
		{"192.0.2.1", "198.51.100.2", [3]string{"1", "201", "4"}}, {"2001:db8::1", "64:ff9b::c000:202", [3]string{"1", "c9", "4"}},
	} {
		from, to := netip.MustParseAddr(c.from), netip.MustParseAddr(c.to)
		f := newFrame(fromMAC, toMAC, from, to, payload)
		for i, p := range []ports{{1, 2}, {65535, 65535}, flowPorts(123_456)} {
			f.setClient([]int{0, 200, 3}[i])
			f.setPorts(p)
			from := netip.MustParseAddr(strings.TrimSuffix(c.from, "1") + c.last[i])
			if _, err := dissect.IP(f.bytes[etherLength:]); err != nil {
				t.Errorf("%v to %v, %v: %v", from, to, p, err)
			}
			got, source, ok := arrived(f.bytes, to)
			if want := p.destination == sinkPort; ok != want || got != p || source != from {
				t.Errorf("%v to %v, %v: read back as %v from %v, ours: %t, want %t", from, to, p, got, source, ok, want)
			}
		}
	}
}

func TestFlowsAreDifferent(t *testing.T) {
	t.Parallel()
	seen := map[ports]bool{}
	for i := range 1_000_000 {
		p := flowPorts(i)
		if seen[p] || p.destination >= sinkPort+sinkPorts || p.source < firstSource {
			t.Fatalf("flow %d: %v", i, p)
		}
		seen[p] = true
	}
}

func FuzzArrived(f *testing.F) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		at := netip.MustParseAddr(a)
		frame := newFrame(fromMAC, toMAC, at, at, payload)
		frame.setPorts(flowPorts(0))
		f.Add(frame.bytes, at.Is6())
	}
	f.Fuzz(func(t *testing.T, b []byte, six bool) {
		at := netip.MustParseAddr("192.0.2.1")
		if six {
			at = netip.MustParseAddr("2001:db8::1")
		}
		if p, from, ok := arrived(b, at); ok && (p.destination != sinkPort || from.Is6() != six || binary.BigEndian.Uint16(b[12:]) == 0) {
			t.Errorf("%v from %v", p, from)
		}
	})
}

func TestSearchFindsHighestRate(t *testing.T) {
	t.Parallel()
	for _, limit := range []float64{10, 300, 777, 999, 5000} {
		best, err := search(500, 1000, 20, func(rate float64) (trial, error) {
			offered := min(rate, 1000)
			return trial{offered, max(0, 1-limit/offered)}, nil
		})
		if want := min(limit, 1000); err != nil || best > want*1.001 || best < 0.94*want {
			t.Errorf("limit %v: found %v, %v", limit, best, err)
		}
	}
	none, err := search(500, 1000, 20, func(float64) (trial, error) { return trial{500, 1}, nil })
	if err != nil || none != 0 {
		t.Errorf("a gateway that forwards nothing has the rate %v, %v", none, err)
	}
	broken := errors.New("broken")
	if _, err := search(500, 1000, 20, func(float64) (trial, error) { return trial{}, broken }); !errors.Is(err, broken) {
		t.Errorf("the error of a trial is lost: %v", err)
	}
}

func TestReportShowsMediansAndRatios(t *testing.T) {
	t.Parallel()
	r := &report{Gateways: []string{"a", "b"}, Repetitions: 3}
	for _, v := range []float64{3, 100, 2} {
		r.put("a", "speed", v)
		r.put("b", "speed", 2*v)
	}
	r.put("b", "only here", 7)
	r.put("b", noiseRow, 50)
	r.fail("a", "something", errors.New("reason"))
	var out strings.Builder
	if err := r.table(&out); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{"| speed | 3.00 | 6.00 (2.00) |", "| only here | - | 7.00 |", "not measured: a: something: reason", "do not trust b: others used 50 %"} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks %q:\n%s", want, out.String())
		}
	}
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"nat66"}, {"-reps", "0"}, {"-cpu-gateway", "0"}, {"-cpu-ends", "-1"}, {"-no-such-flag"}, {"-link", "wifi"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	if err := run([]string{toolArgument, "nothing", "{}"}); err == nil {
		t.Error("a tool that does not exist runs")
	}
}

// Every tool works through a gateway without loss: the kernel's IPv6 forwarding.
func TestToolsWithKernelForwarding(t *testing.T) {
	for _, link := range []string{linkVeth, linkTAP} {
		t.Run(link, func(t *testing.T) { checkTools(t, link) })
	}
}

func checkTools(t *testing.T, link string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and packet sockets need root")
	}
	const cpu = 0 // one for all, because nothing is measured
	b, err := newBed(t.Context(), link, offloadNone, cpu, cpu, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := startForwarding(t.Context(), b, programs{}); err != nil {
		t.Fatal(err)
	}
	cache, err := filepath.Abs("../../.cache")
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("NAT64D_CACHE"); dir != "" {
		cache = dir
	}
	iperf, err := find("iperf3", cache)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.serve(t.Context(), iperf); err != nil {
		t.Fatal(err)
	}
	e := effort{time.Second, 100 * time.Millisecond, 100 * time.Millisecond, 10, 2, []int{fewFlows}, 2 * fewFlows, 0, 0}
	values := map[string]float64{}
	s := &stint{b, e, programs{iperf: iperf}, func(name string, value float64) { values[name] = value }}

	r, arrived, err := s.up(t.Context(), s.order(fewFlows, gentleRate, opening))
	if err != nil || r.Sent < fewFlows || arrived < r.Sent*9/10 || arrived > r.Sent {
		t.Errorf("of %d packets %d arrived: %v", r.Sent, arrived, err)
	}
	for _, w := range []workload{{run: correctness}, {run: latency}, {run: shortConnections}, {run: downwards}, {run: mixed}, {run: stream("tcp", "-P1", "-R")}} {
		if err := w.run(t.Context(), s); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"udp rtt p50 us", "udp rtt p99 us", "ping avg us", "tcp conn/s", "udp 4to6 overload kpps", "udp mix: overload kpps", "tcp"} {
		if values[name] <= 0 {
			t.Errorf("%s: %v", name, values[name])
		}
	}
	p, err := call[paceResult](t.Context(), b.client, toolPace, paceOrder{b.destination, 50, 100 * time.Millisecond, 200 * time.Millisecond})
	if want := (paceResult{10, 10, 10}); err != nil || p != want {
		t.Errorf("at a rate: %+v, %v, want %+v", p, err, want)
	}
	if values["tcp conn failed"] != 0 {
		t.Errorf("%v connections failed", values["tcp conn failed"])
	}
}
