package control_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

func TestMatchSession(t *testing.T) {
	t.Parallel()
	tcp := control.Session{
		Protocol: "tcp", Client: netip.MustParseAddrPort("[2001:db8::8]:5000"), Mapped: netip.MustParseAddrPort("192.0.2.1:7042"),
		Peer: netip.MustParseAddrPort("198.51.100.7:443"), State: "ESTABLISHED", Idle: control.Seconds(time.Minute),
	}
	syn := control.Session{Protocol: "tcp", Mapped: tcp.Mapped, Peer: tcp.Peer, State: "V4_INIT"}
	ports := func(s string) control.Ports {
		p, err := control.ParsePorts(s)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	mapped := func(s string) control.Mapped {
		m, err := control.ParseMapped(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for _, c := range []struct {
		f        control.Filter
		tcp, syn bool
	}{
		{control.Filter{}, true, true},
		{control.Filter{Ports: ports("443")}, true, true},
		{control.Filter{Ports: ports("5000")}, true, false},
		{control.Filter{Ports: ports("7000-7099")}, true, true},
		{control.Filter{Ports: ports("80")}, false, false},
		{control.Filter{Ports: ports("0")}, false, false},
		{control.Filter{Mapped: mapped("192.0.2.1")}, true, true},
		{control.Filter{Mapped: mapped("192.0.2.0/28")}, true, true},
		{control.Filter{Mapped: mapped("192.0.2.1:7042")}, true, true},
		{control.Filter{Mapped: mapped("192.0.2.1#7043-7050")}, false, false},
		{control.Filter{Mapped: mapped("192.0.2.2")}, false, false},
		{control.Filter{States: []string{"TRANS", "ESTABLISHED"}}, true, false},
		{control.Filter{Older: time.Minute}, true, false},
		{control.Filter{Older: time.Minute + 1}, false, false},
		{control.Filter{Client: netip.MustParsePrefix("2001:db8::/32"), Ports: ports("7042")}, true, false},
	} {
		if got := c.f.MatchSession(&tcp); got != c.tcp {
			t.Errorf("%+v selects the session: %v", c.f, got)
		}
		if got := c.f.MatchSession(&syn); got != c.syn {
			t.Errorf("%+v selects the stored SYN: %v", c.f, got)
		}
	}
}

// A listing with an order and a limit has the first entries of that order. Without a limit nat64d sorts up to 100,000 and refuses more.
func TestSortedListing(t *testing.T) {
	t.Parallel()
	ports := func(c *control.Client, f control.Filter) (all []string, err error) {
		err = c.Bindings(t.Context(), f, func(b control.Binding) error { all = append(all, fmt.Sprint(b.Mapped.Port())); return nil })
		return all, err
	}
	c := start(t, &memory{bindings: 30})
	for _, tt := range []struct {
		order string
		limit int
		want  string
	}{
		{"mapped", 3, "0 1 2"},
		{"-mapped", 3, "29 28 27"},
		{"-client", 1, "29"},
	} {
		if all, err := ports(c, control.Filter{Order: control.ParseOrder(tt.order), Limit: tt.limit}); err != nil || strings.Join(all, " ") != tt.want {
			t.Errorf("%s: %v, %v, want %s", tt.order, all, err, tt.want)
		}
	}
	if all, err := ports(c, control.Filter{Order: control.ParseOrder("mapped")}); err != nil || len(all) != 30 || all[29] != "29" {
		t.Errorf("%v, %v", all, err)
	}
	var refused *control.Error
	if _, err := ports(c, control.Filter{Order: control.ParseOrder("state")}); !errors.As(err, &refused) || !strings.Contains(refused.Hint, "use client, mapped, protocol, sessions") {
		t.Errorf("unknown order: %v", err)
	}
	c = start(t, &memory{bindings: 100_001})
	if _, err := ports(c, control.Filter{Order: control.ParseOrder("mapped")}); !errors.As(err, &refused) || !strings.Contains(refused.Hint, "--limit") {
		t.Errorf("too many: %v", err)
	}
	if all, err := ports(c, control.Filter{Order: control.ParseOrder("-mapped"), Limit: 1}); err != nil || len(all) != 1 || all[0] != "65535" {
		t.Errorf("the last of many: %v, %v", all, err)
	}
}

func TestCount(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 30})
	if n, err := c.CountBindings(t.Context(), control.Filter{Protocols: []string{"udp", "tcp"}}); err != nil || n.Count != 20 || n.Protocols["udp"] != 10 {
		t.Errorf("%+v, %v", n, err)
	}
	if n, err := c.CountSessions(t.Context(), control.Filter{}); err != nil || n.Count != 1 || n.Protocols["tcp"] != 1 || n.States["ESTABLISHED"] != 1 {
		t.Errorf("%+v, %v", n, err)
	}
}

func TestRemoveSessions(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	if r, err := c.RemoveSessions(t.Context(), control.SessionChange{Protocols: []string{"tcp"}, States: []string{"established"}}); err != nil || r.Sessions != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := c.RemoveSessions(t.Context(), control.SessionChange{Port: "80"}); err != nil || r.Sessions != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for want, change := range map[string]control.SessionChange{
		"selects no session":    {},
		"is not a state":        {States: []string{"open"}},
		"is not a duration":     {Older: "5"},
		"the range is reversed": {Port: "8-7"},
	} {
		if _, err := c.RemoveSessions(t.Context(), change); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", change, err, want)
		}
	}
}

// Following delivers losses and events until the limit, the error of yield or the end of the context.
func TestFollowSessions(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{bindings: 3})
	var all []string
	err := c.FollowSessions(t.Context(), control.Filter{Limit: 3}, func(e control.SessionEvent) error {
		all = append(all, fmt.Sprint(e.Event, e.Lost, e.Session.Peer))
		return nil
	})
	if want := "lost7 invalid AddrPort made0 198.51.100.7:443 made0 198.51.100.7:443"; err != nil || strings.Join(all, " ") != want {
		t.Errorf("%q, %v, want %q", all, err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err = c.FollowSessions(ctx, control.Filter{}, func(control.SessionEvent) error {
		if n++; n == 4 {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) || n != 4 {
		t.Errorf("after %d events: %v", n, err)
	}
	busy := start(t, &memory{fail: &control.Error{Message: "too many follow", Hint: "end one"}})
	var refused *control.Error
	if err := busy.FollowSessions(t.Context(), control.Filter{}, nil); !errors.As(err, &refused) || refused.Hint != "end one" {
		t.Errorf("refused: %v", err)
	}
	if err := c.FollowSessions(t.Context(), control.Filter{Older: time.Second}, nil); err == nil || !strings.Contains(err.Error(), `unknown filter "older"`) {
		t.Errorf("older: %v", err)
	}
}
