package control_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nat64d/ops/control"
)

// memory is a Backend with a few rows.
type memory struct {
	mu       sync.Mutex
	changes  []control.Pool4Change
	paused   bool
	bindings int                 // number of bindings that Bindings yields
	fail     error               // error that Bindings returns at its end
	taps     int                 // traces and captures that are not closed
	filter   control.TraceFilter // of the last one
	reached  chan struct{}       // if set, Bindings closes it after the first entry and waits for its context
}

var _ control.Backend = (*memory)(nil)

func (m *memory) Version() control.Version { return control.Version{Version: "v1", Go: "go1.26"} }

func (m *memory) Status() control.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return control.Status{Version: m.Version(), PID: 7, Uptime: control.Seconds(90*time.Second + 250*time.Millisecond), Paused: m.paused, Drops: 1<<64 - 1}
}

func (m *memory) Pool4() []control.Pool4Entry { return nil }

func (m *memory) AddPool4(c control.Pool4Change) (control.Pool4Result, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Ports == "0" {
		return control.Pool4Result{}, errors.New("pool4: port 0")
	}
	m.changes = append(m.changes, c)
	return control.Pool4Result{Added: []control.Pool4Range{{Address: netip.MustParseAddr("192.0.2.1"), Protocol: "tcp", Ports: c.Ports}}}, nil
}

func (m *memory) RemovePool4(control.Pool4Change) (control.Pool4Result, error) {
	return control.Pool4Result{}, &control.Error{Message: "not there", Hint: "look at the list"}
}

func (m *memory) FlushPool4() (control.Pool4Result, error) {
	return control.Pool4Result{Bindings: 2, Sessions: 3}, nil
}

func (m *memory) Pool6() []control.Pool6Entry {
	return []control.Pool6Entry{{Prefix: netip.MustParsePrefix("64:ff9b::/96")}}
}

func (m *memory) Bindings(ctx context.Context, f control.Filter, yield func(control.Binding) error) error {
	for i := range m.bindings {
		b := control.Binding{
			Protocol: []string{"tcp", "udp", "icmp"}[i%3],
			Client:   netip.AddrPortFrom(netip.MustParseAddr("2001:db8::8"), uint16(i)),
			Mapped:   netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(i)),
		}
		if !f.MatchBinding(&b) {
			continue
		}
		if err := yield(b); err != nil {
			return err
		}
		if m.reached != nil {
			close(m.reached)
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return m.fail
}

func (m *memory) Sessions(_ context.Context, f control.Filter, yield func(control.Session) error) error {
	s := control.Session{
		Protocol: "tcp", State: "ESTABLISHED", Expires: control.Seconds(1500 * time.Millisecond),
		Client: netip.MustParseAddrPort("[2001:db8::8]:1"), Peer6: netip.MustParseAddrPort("[64:ff9b::c633:6407]:443"),
		Mapped: netip.MustParseAddrPort("192.0.2.1:2"), Peer: netip.MustParseAddrPort("198.51.100.7:443"),
	}
	if !f.MatchSession(&s) {
		return nil
	}
	return yield(s)
}

func (m *memory) CountSessions(ctx context.Context, f control.Filter) (c control.SessionCount, err error) {
	err = m.Sessions(ctx, f, func(s control.Session) error { c.Add(s.Protocol, s.State, 1); return nil })
	return c, err
}

// FollowSessions yields a loss and then the given number of beginnings, and waits until its client is gone.
func (m *memory) FollowSessions(ctx context.Context, f control.Filter, yield func([]control.SessionEvent) error) error {
	if m.fail != nil {
		return m.fail
	}
	if err := yield(nil); err != nil {
		return err
	}
	batch := []control.SessionEvent{{Time: time.Unix(1, 0), Event: control.EventsLost, Lost: 7}}
	_ = m.Sessions(ctx, f, func(s control.Session) error {
		for range m.bindings {
			batch = append(batch, control.SessionEvent{Time: time.Unix(2, 0), Event: control.SessionMade, Session: s})
		}
		return nil
	})
	if err := yield(batch); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func (m *memory) RemoveSessions(f control.Filter) (r control.SessionResult, err error) {
	err = m.Sessions(context.Background(), f, func(control.Session) error { r.Sessions++; return nil })
	return r, err
}

func (m *memory) Pool4Usage(clients int) control.Pool4Usage {
	return control.Pool4Usage{Clients: make([]control.ClientUse, clients)}
}

func (m *memory) Clients(q control.ClientQuery) control.ClientList {
	return control.ClientList{Clients: make([]control.ClientUse, q.Limit), Total: len(q.By)}
}

func (m *memory) Stats() []control.Counter {
	return []control.Counter{{Name: "drops", Labels: map[string]string{"reason": "hop_limit"}, Value: 1<<64 - 1, Help: "used up", Kind: "drop"}}
}

func (m *memory) Pause() error  { return m.set(true) }
func (m *memory) Resume() error { return m.set(false) }

func (m *memory) set(paused bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = paused
	return nil
}

// start serves a Backend on a new socket until the test ends.
func start(t *testing.T, b control.Backend) *control.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	stop := startOn(t, path, b)
	t.Cleanup(stop)
	return &control.Client{Socket: path, Timeout: 20 * time.Second}
}

func startOn(t *testing.T, path string, b control.Backend) (stop func()) {
	t.Helper()
	l, err := control.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, control.NewServer(b, nil, slog.New(slog.DiscardHandler))) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

func (m *memory) AddPool6(c control.Pool6Change) (control.Pool6Result, error) {
	p, err := netip.ParsePrefix(c.Prefix)
	return control.Pool6Result{Prefix: p}, err
}

func (m *memory) RemovePool6(control.Pool6Change) (control.Pool6Result, error) {
	return control.Pool6Result{Prefix: netip.MustParsePrefix("64:ff9b::/96"), Sessions: 4}, nil
}

func (m *memory) AddBinding(c control.BindingChange) (control.BindingResult, error) {
	return control.BindingResult{Added: []control.BindingRange{bound(c.Protocols[0], c.Client, c.Mapped)}}, nil
}

func (m *memory) RemoveBinding(c control.BindingChange) (control.BindingResult, error) {
	return control.BindingResult{Removed: []control.BindingRange{bound("tcp", "[2001:db8::5]:80", c.Mapped)}, Bindings: 1, Sessions: 5}, nil
}

func (m *memory) GetConfig(key string) ([]control.ConfigKey, error) {
	if key == "a&b=c" {
		return nil, &control.Error{Message: "unknown key " + key, Hint: "look at the list"}
	}
	return []control.ConfigKey{{Name: "sessions.timeouts.udp", Value: "5m", Live: true, Jool: []control.JoolKey{{Name: "udp-timeout", Value: "0:05:00"}}}}, nil
}

func (m *memory) SetConfig(c control.ConfigChange) (control.ConfigResult, error) {
	return control.ConfigResult{Name: c.Key, Old: "5m", New: c.Value}, nil
}

func (m *memory) Reload() (control.ReloadResult, error) { return control.ReloadResult{}, nil }

func (m *memory) Address(a netip.Addr) ([]control.AddressPair, error) {
	return []control.AddressPair{{Prefix: netip.MustParsePrefix("64:ff9b::/96"), V6: netip.MustParseAddr("64:ff9b::192.0.2.1"), V4: a}}, nil
}

// bound returns a binding between two transport addresses.
func bound(protocol, client, mapped string) control.BindingRange {
	c, m := netip.MustParseAddrPort(client), netip.MustParseAddrPort(mapped)
	return control.BindingRange{Protocol: protocol, Client: c.Addr(), ClientPort: c.Port(), Mapped: m.Addr(), MappedPort: m.Port(), Count: 1}
}

func (m *memory) Doctor(_ context.Context, q control.DoctorRequest) ([]control.Finding, error) {
	return []control.Finding{{Severity: control.SeverityOK, Check: "probe", Reason: "pinged " + q.Probe}}, nil
}

func (m *memory) Support(context.Context) ([]control.SupportFile, error) {
	return []control.SupportFile{{Name: "log.txt", Text: "a line\n"}}, nil
}
