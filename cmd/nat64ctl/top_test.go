package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"

	"nat64d/ops/control"
)

// busyGateway returns a sample of a gateway with many pools, drops and clients, after some seconds.
func busyGateway(seconds uint64) topSample {
	s := topSample{at: time.Unix(int64(1000+seconds), 0)}
	s.status = control.Status{
		Version: control.Version{Version: "v1.2.3"}, PID: 7, Ready: true, Uptime: control.Seconds(time.Duration(seconds) * time.Second),
		Protocols: []control.Protocol{{Protocol: "tcp", Sessions: 123456}, {Protocol: "udp", Sessions: 99}, {Protocol: "icmp"}},
		Traffic: []control.Traffic{
			{Direction: "6to4", Packets: 250_000 * seconds, Bytes: 125_000_000 * seconds}, {Direction: "4to6", Packets: 500 * seconds, Bytes: 99 * seconds}, {Direction: "hairpin"},
		},
		Interfaces: []control.Interface{{Side: "v6", Name: "ens4", Workers: []control.Worker{{Processors: "0-1", Busy: 0.734}}}, {Side: "v4", Name: "ens5", Workers: []control.Worker{{Processors: "0-1"}}}},
	}
	for i := range uint64(6) {
		name := fmt.Sprintf("reason_%d", i)
		s.counters = append(s.counters,
			control.Counter{Name: "nat64_dropped_packets_total", Labels: map[string]string{"direction": "6to4", "reason": name}, Value: i * seconds, Kind: "drop", Help: strings.Repeat("a long hint ", 12)},
			control.Counter{Name: "nat64_dropped_packets_total", Labels: map[string]string{"direction": "4to6", "reason": name}, Value: i * 100, Kind: "drop"})
		s.pool4 = append(s.pool4, control.Pool4Row{Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), Protocol: "tcp", Size: 1000, Used: int(i * 100), Free: int(1000 - i*100), Peak: 1000})
	}
	for i := range 100 {
		s.clients.Clients = append(s.clients.Clients, control.ClientUse{Client: netip.MustParseAddr(fmt.Sprintf("2001:db8:1234:5678:9abc:def0:1234:%x", i+4096)), Ports: 100 - i, BytesPerSecond: 125_000})
	}
	s.clients.Total = 1234
	return s
}

// In a window of 80 columns and 24 lines, a view has the fullest pools, the most frequent drops and as many clients as fit.
func TestTopFitsTheWindow(t *testing.T) {
	t.Parallel()
	plain := func(_, text string) string { return text }
	before, after := busyGateway(0), busyGateway(10)
	v := newTopView(&before, &after, "ports")
	for _, size := range [][2]int{{80, 23}, {120, 50}, {40, 12}} {
		lines := v.lines(size[0], size[1], plain)
		text := strings.Join(lines, "\n")
		if size[1] >= 20 && len(lines) != size[1] {
			t.Errorf("%v: %d lines:\n%s", size, len(lines), text)
		}
		for _, line := range lines {
			if utf8.RuneCountInString(line) > size[0] {
				t.Errorf("%v: %q is too long", size, line)
			}
		}
		if size[0] < 80 {
			continue
		}
		for _, want := range []string{
			"nat64d v1.2.3  ready", "tcp 123456  udp 99  icmp 0   clients 1234", "6to4 250kpps 1.00Gbit/s   4to6 500pps 792bit/s", "v6 73% on 0-1  v4 0% on 0-1",
			"192.0.2.5", "reason_5", "reason_5  5           550", "PORTS*", "2001:db8:1234:5678:9abc:def0:1234:1000", "1.00M",
		} {
			if !strings.Contains(text, strings.TrimSpace(want)) {
				t.Errorf("%v: no %q in\n%s", size, want, text)
			}
		}
		if strings.Contains(text, "reason_0") || strings.Contains(text, "192.0.2.0 ") {
			t.Errorf("%v: a reason without drops or the emptiest pool is in\n%s", size, text)
		}
	}
}

// The screen sorts by keys, fits itself to the window, and keeps the last view while the daemon does not answer.
func TestTopScreen(t *testing.T) {
	t.Parallel()
	seconds, down := uint64(0), false
	asked := ""
	m := &topModel{ctx: t.Context(), options: topOptions{every: time.Millisecond, order: "ports", clients: 20}, paint: func(_, text string) string { return text }}
	m.look = func(_ context.Context, order string, _ int) (topSample, error) {
		asked = order
		if down {
			return topSample{}, errors.New("nat64d does not answer on /run/nat64d/nat64d.sock: no process listens there")
		}
		seconds += 5
		return busyGateway(seconds), nil
	}
	step := func(msg tea.Msg) {
		_, cmd := m.Update(msg)
		if cmd != nil {
			if result, ok := cmd().(looked); ok {
				m.Update(result)
			}
		}
	}
	turn := func() { step(due{m.turn}) }
	step(tea.WindowSizeMsg{Width: 80, Height: 24})
	step(m.Init()())
	if !strings.Contains(m.text(), "looking") {
		t.Errorf("a first look has no rates, but the screen is\n%s", m.text())
	}
	turn()
	if lines := strings.Split(m.text(), "\n"); len(lines) != 24 || !strings.Contains(m.text(), "250kpps") || !strings.Contains(lines[23], "q quit") {
		t.Errorf("%d lines:\n%s", len(lines), m.text())
	}
	step(tea.KeyPressMsg{Code: 'b', Text: "b"})
	if asked != "bytes" || !strings.Contains(m.text(), "BYTES*") {
		t.Errorf("sorted by %s:\n%s", asked, m.text())
	}
	down = true
	turn()
	if v := m.text(); !strings.Contains(v, "does not answer") || !strings.Contains(v, "trying again") || !strings.Contains(v, "192.0.2.5") || strings.Count(v, "\n") != 23 {
		t.Errorf("while the daemon is gone:\n%s", v)
	}
	down = false
	turn()
	step(tea.WindowSizeMsg{Width: 60, Height: 15})
	if v := m.text(); strings.Contains(v, "does not answer") || strings.Count(v, "\n") != 14 {
		t.Errorf("when it is back, in a smaller window:\n%s", v)
	}
	if _, cmd := m.Update(tea.KeyPressMsg{Code: 'q', Text: "q"}); cmd == nil {
		t.Error("q does not end it")
	} else if _, ok := cmd().(tea.QuitMsg); !ok {
		t.Error("q does not end it")
	}
}

func TestMetricPrefixes(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 7: "7", 0.5: "0.50", 999: "999", 999.6: "1.00k", 1234: "1.23k", 99_950: "100k", 12_345_678: "12.3M", 1e19: "10.0E"} {
		if got := metric(n); got != want {
			t.Errorf("metric(%v) = %s, want %s", n, got, want)
		}
	}
}
