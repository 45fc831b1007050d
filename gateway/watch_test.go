package gateway

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
)

// watched returns a gateway that does not run, and its log.
func watched(t *testing.T, change func(*Options)) (*Gateway, *bytes.Buffer) {
	var log bytes.Buffer
	return stillWith(t, func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		change(o)
	}), &log
}

func TestFullPoolIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	g, log := watched(t, func(*Options) {})
	var ws watches
	for second := range 150 { // refusals in each of them
		g.workers[packet.V6].count.Dropped(drop.PoolExhausted, 2)
		ws.check(g, time.Duration(second+1)*time.Second)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "count=2") || !strings.Contains(lines[1], "count=120") {
		t.Errorf("150 seconds of a full pool were logged as\n%s", log)
	}
	ws.check(g, time.Hour)
	ws.check(g, 2*time.Hour)
	if n := strings.Count(log.String(), "\n"); n != 4 || g.Counters.Event(metrics.LimitReached) != 4 {
		t.Errorf("%d lines, want 4, all of them counted: one for the refusals that had not been logged, none without any", n)
	}
}

// Each limit of ten is filled to seven, eight and ten.
func TestLimitIsLoggedAt80Percent(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(g *Gateway, i int){
		"sessions": func(g *Gateway, i int) { // all through one binding
			src, dst := packet.Endpoint6{Addr: packet.Addr6{15: 1}, Port: 5000}, packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, byte(i)}}
			g.epochs.Enter(0)
			defer g.epochs.Leave(0)
			g.Sessions.From6(&session.Flow{Proto: packet.UDP, Client: src, Remote: dst}, &session.Packet{Event: packet.Other})
		},
		"bindings": func(g *Gateway, i int) {
			client := packet.Endpoint6{Addr: packet.Addr6{15: 1}, Port: uint16(80 + i)}
			if err := g.Bindings.AddStatic(packet.UDP, client, packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: uint16(80 + i)}); err != nil {
				t.Error(err)
			}
		},
		"udp ports of pool4": func(g *Gateway, i int) {
			g.Pool4.Allocate(pool4.Request{Proto: packet.UDP, Client: packet.Endpoint6{Port: 5000}})
		},
		"stored SYNs": func(g *Gateway, i int) {
			g.SYNs.Add(packet.Endpoint4{Port: uint16(i)}, packet.Endpoint4{Port: 80}, nil, 0)
		},
		"fragment memory": func(g *Gateway, i int) { g.workers[packet.V4].count.FragmentBytes(i + 1) },
	} {
		g, log := watched(t, func(o *Options) {
			o.Max, o.Config.SYNs.Total, o.Config.Fragments.Bytes = 10, 10, 10
			o.Pool4 = pool4.New([16]byte{})
			entries, _ := pool4.ParseRange("192.0.2.1", "7000-7009")
			if _, _, err := o.Pool4.Add(entries); err != nil {
				t.Fatal(err)
			}
		})
		var ws watches
		for i := range 10 {
			fill(g, i)
			ws.check(g, time.Duration(i+1)*time.Second)
			if logged := strings.Contains(log.String(), name); logged != (i >= 7) {
				t.Errorf("%s: after %d of 10 the log says %q", name, i+1, log)
			}
		}
		ws.check(g, time.Hour)
		if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "used=8 of=10") {
			t.Errorf("%s: the log says\n%s", name, log)
		}
	}
}

// The use of a limit alternates around 80 %.
func TestLimitIsLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	g, log := watched(t, func(o *Options) { o.Config.Fragments.Bytes = 10 })
	var ws watches
	for second := range 150 {
		g.workers[packet.V6].count.FragmentBytes(8 - second%2)
		ws.check(g, time.Duration(second+1)*time.Second)
	}
	if n := strings.Count(log.String(), "\n"); n != 3 || g.Counters.Event(metrics.LimitNear) != 3 {
		t.Errorf("150 seconds were logged as\n%s", log)
	}
}
