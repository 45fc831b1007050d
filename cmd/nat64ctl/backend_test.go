package main_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"nat64d/ops/control"
)

// fake is a Backend with fixed rows.
type fake struct {
	empty bool // all lists are empty
}

var _ control.Backend = fake{}

func (fake) Version() control.Version { return control.Version{Version: "v1.2.3", Go: "go1.26.0"} }

func (f fake) Status() control.Status {
	s := control.Status{
		Version: f.Version(), PID: 4711, Uptime: control.Seconds(26*time.Hour + 3*time.Minute), Ready: true,
		Interfaces: []control.Interface{
			{Side: "v6", Name: "ens4", MTU: 1500, Up: true, Engine: "ring", Bursts: true, Offloads: []string{"rx-gro", "threaded"},
				Workers: []control.Worker{{Processors: "2-3", Why: "ens4 receives on 0-1"}, {Processors: "2-3", Why: "ens4 receives on 0-1"}}},
			{Side: "v4", Name: "ens5", MTU: 1500, Engine: "ring", Workers: []control.Worker{{Processors: "3", Why: "interfaces.pin"}, {Processors: "2", Why: "interfaces.pin"}}},
		},
		Kept: control.Kept{
			Dir: "/run/nat64d/state", Restored: true, Sessions: 2, Refused: map[string]int{"expired": 3, "not in pool4": 1},
			From: "v1.2.2", Age: control.Seconds(80 * time.Millisecond), Took: control.Seconds(2 * time.Millisecond), Unkept: 1024,
		},
		Sandbox:   control.Sandbox{Capabilities: []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}, NoNewPrivs: true, Landlock: 7},
		Pool6:     []string{"64:ff9b::/96"},
		Protocols: []control.Protocol{{Protocol: "tcp", Bindings: 1, Sessions: 2, Pool4Ports: 1001, Pool4Used: 1, Pool4Addresses: 1}},
		Traffic:   []control.Traffic{{Direction: "6to4", Packets: 10, Bytes: 1 << 60}},
		Drops:     1,
	}
	if f.empty {
		s.Ready, s.NotReady = false, []string{"pool4 is empty"}
		s.Warnings = []string{"group nat64 does not exist"}
	}
	return s
}

var (
	pool4Address = netip.MustParseAddr("10.0.2.15")
	client       = netip.MustParseAddrPort("[2001:db8::8]:37878")
	mapped       = netip.MustParseAddrPort("10.0.2.15:7042")
)

func (f fake) Pool4() []control.Pool4Entry {
	if f.empty {
		return nil
	}
	return []control.Pool4Entry{{Pool4Range: control.Pool4Range{Address: pool4Address, Protocol: "tcp", Ports: "7000-8000"}, Used: 1, Free: 1000, State: "host"}}
}

// AddPool4 adds the range to two neighbouring addresses, whose rows the output joins.
func (fake) AddPool4(c control.Pool4Change) (r control.Pool4Result, err error) {
	switch c.Ports {
	case "8000-7000":
		return r, errors.New("pool4: ports 8000-7000: the range is reversed: write 7000-8000")
	case "22":
		if !c.Force {
			return r, &control.Error{Message: "port 22 is in use by this machine", Hint: "add --force if that is meant"}
		}
		r.Warnings = []string{"sshd listens on port 22"}
	case "1-2":
		return r, nil
	}
	for _, a := range []netip.Addr{pool4Address, pool4Address.Next()} {
		for _, p := range []string{"tcp", "udp", "icmp"} {
			if len(c.Protocols) == 0 || slices.Contains(c.Protocols, p) {
				r.Added = append(r.Added, control.Pool4Range{Address: a, Protocol: p, Ports: c.Ports})
			}
		}
	}
	r.Merged = []control.Pool4Range{{Address: pool4Address, Protocol: "tcp", Ports: "7000-9000"}}
	return r, nil
}

func (fake) RemovePool4(c control.Pool4Change) (control.Pool4Result, error) {
	return control.Pool4Result{
		Removed:  []control.Pool4Range{{Address: pool4Address, Protocol: "udp", Ports: c.Ports}},
		Bindings: 1, Sessions: 2,
	}, nil
}

func (fake) FlushPool4() (control.Pool4Result, error) { return control.Pool4Result{}, nil }

func (fake) Pool6() []control.Pool6Entry {
	return []control.Pool6Entry{{Prefix: netip.MustParsePrefix("64:ff9b::/96")}}
}

func (f fake) Pool4Usage(clients int) (u control.Pool4Usage) {
	if f.empty {
		return u
	}
	u.Pool4 = []control.Pool4Row{{Address: pool4Address, Protocol: "tcp", Size: 1001, Used: 1, Held: 20, Free: 980, Peak: 730}}
	u.Clients = f.Clients(control.ClientQuery{}).Clients
	return control.Pool4Usage{Pool4: u.Pool4, Clients: u.Clients[:min(clients, len(u.Clients))]}
}

func (f fake) Clients(control.ClientQuery) control.ClientList {
	if f.empty {
		return control.ClientList{}
	}
	return control.ClientList{Total: 2, Accounted: control.Seconds(90 * time.Second), Clients: []control.ClientUse{
		{Client: client.Addr(), Mapped: pool4Address, Ports: 2, Sessions: 3, Packets6To4: 10, Bytes6To4: 1000, Packets4To6: 20, Bytes4To6: 30000, PacketsPerSecond: 1.5, BytesPerSecond: 2048},
		{Client: netip.MustParseAddr("2001:db8::a:8"), Mapped: pool4Address, Ports: 1},
	}}
}

func (f fake) FollowSessions(ctx context.Context, filter control.Filter, yield func([]control.SessionEvent) error) error {
	if err := yield(nil); err != nil {
		return err
	}
	at := time.Date(2026, 11, 30, 3, 0, 0, 0, time.UTC)
	events := []control.SessionEvent{{Time: at, Event: control.EventsLost, Lost: 2}}
	_ = f.Sessions(ctx, filter, func(s control.Session) error {
		events = append(events, control.SessionEvent{Time: at.Add(time.Second), Event: control.SessionMade, Session: s})
		if s.State == "ESTABLISHED" {
			events = append(events, control.SessionEvent{Time: at.Add(2 * time.Second), Event: control.SessionChanged, Session: s, Before: "V6_INIT"})
			events = append(events, control.SessionEvent{Time: at.Add(3 * time.Second), Event: control.SessionEnded, Session: s, Cause: "reset"})
		}
		return nil
	})
	if err := yield(events); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (f fake) RemoveSessions(filter control.Filter) (r control.SessionResult, err error) {
	err = f.Sessions(context.Background(), filter, func(control.Session) error { r.Sessions++; return nil })
	return r, err
}

func (f fake) Bindings(_ context.Context, filter control.Filter, yield func(control.Binding) error) error {
	for _, b := range []control.Binding{
		{Protocol: "tcp", Client: client, Mapped: mapped, Sessions: 2},
		{Protocol: "udp", Client: netip.MustParseAddrPort("[2001:db8::a:8]:53"), Mapped: netip.MustParseAddrPort("10.0.2.15:7001"), Static: true},
	} {
		if f.empty || !filter.MatchBinding(&b) {
			continue
		}
		if err := yield(b); err != nil {
			return err
		}
	}
	return nil
}

func (f fake) Sessions(_ context.Context, filter control.Filter, yield func(control.Session) error) error {
	peer, peer6 := netip.MustParseAddrPort("198.51.100.7:443"), netip.MustParseAddrPort("[64:ff9b::c633:6407]:443")
	for _, s := range []control.Session{
		{Protocol: "tcp", Client: client, Peer6: peer6, Mapped: mapped, Peer: peer, State: "ESTABLISHED", Expires: control.Seconds(2*time.Hour - 1500*time.Millisecond), Idle: control.Seconds(1500 * time.Millisecond)},
		{Protocol: "udp", Client: client, Peer6: peer6, Mapped: mapped, Peer: peer, Expires: control.Seconds(59 * time.Second), Idle: control.Seconds(4 * time.Minute)},
		{Protocol: "tcp", Peer6: netip.MustParseAddrPort("[64:ff9b::c633:6409]:80"), Mapped: mapped, Peer: netip.MustParseAddrPort("198.51.100.9:80"), State: "V4_INIT", Expires: control.Seconds(6 * time.Second)},
	} {
		if f.empty || !filter.MatchSession(&s) {
			continue
		}
		if err := yield(s); err != nil {
			return err
		}
	}
	return nil
}

func (f fake) CountSessions(ctx context.Context, filter control.Filter) (c control.SessionCount, err error) {
	err = f.Sessions(ctx, filter, func(s control.Session) error { c.Add(s.Protocol, s.State, 1); return nil })
	return c, err
}

func (fake) Stats() []control.Counter {
	return []control.Counter{
		{Name: "packets", Labels: map[string]string{"direction": "6to4"}, Value: 1<<64 - 1, Help: "translated", Kind: "packets"},
		{Name: "drops", Labels: map[string]string{"reason": "hop_limit"}, Value: 3, Help: `hop limit used up, "traceroute"`, Kind: "drop"},
		{Name: "drops", Labels: map[string]string{"reason": "no_route"}, Help: "no route", Kind: "drop"},
	}
}

func (fake) Pause() error  { return nil }
func (fake) Resume() error { return errors.New("not paused") }

func (f fake) Doctor(_ context.Context, q control.DoctorRequest) ([]control.Finding, error) {
	found := []control.Finding{
		{Severity: control.SeverityOK, Check: "interface", Reason: "both interfaces are up"},
		{Severity: control.SeverityWarning, Check: "offloads", Reason: "receive offload (GRO) is off on ens5", Command: "ethtool -K ens5 gro on"},
	}
	switch {
	case f.empty:
		return found[:1], nil
	case q.Probe != "":
		found = append(found, control.Finding{Severity: control.SeverityError, Check: "probe", Reason: "no answer from " + q.Probe, Command: "ip route get " + q.Probe})
	}
	return found, nil
}

func (fake) Support(context.Context) ([]control.SupportFile, error) {
	return []control.SupportFile{{Name: "status.json", Text: "{}\n"}, {Name: "log.txt", Text: "a line\n"}}, nil
}
