package control_test

import (
	"errors"
	"net/netip"
	"testing"

	"nat64d/ops/control"
)

func TestPool6RoundTrip(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	if r, err := c.AddPool6(t.Context(), control.Pool6Change{Prefix: "2001:db8::/32"}); err != nil || r.Prefix != netip.MustParsePrefix("2001:db8::/32") {
		t.Errorf("add %+v, %v", r, err)
	}
	if r, err := c.RemovePool6(t.Context(), control.Pool6Change{Prefix: "64:ff9b::/96"}); err != nil || r.Sessions != 4 {
		t.Errorf("remove %+v, %v", r, err)
	}
	p, err := c.Address(t.Context(), "192.0.2.1")
	if err != nil || len(p) != 1 || p[0].V6 != netip.MustParseAddr("64:ff9b::c000:201") || p[0].V4 != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("address %+v, %v", p, err)
	}
}

func TestBindingsRoundTrip(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	change := control.BindingChange{Protocols: []string{"tcp"}, Client: "[2001:db8::5]:8000", Mapped: "10.0.2.15:8001"}
	r, err := c.AddBinding(t.Context(), change)
	if err != nil || len(r.Added) != 1 || r.Added[0] != bound("tcp", change.Client, change.Mapped) {
		t.Errorf("add %+v, %v", r, err)
	}
	r, err = c.RemoveBinding(t.Context(), control.BindingChange{Mapped: "10.0.2.15:7080"})
	if err != nil || len(r.Removed) != 1 || r.Removed[0] != bound("tcp", "[2001:db8::5]:80", "10.0.2.15:7080") || r.Bindings != 1 || r.Sessions != 5 {
		t.Errorf("remove %+v, %v", r, err)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	c := start(t, &memory{})
	keys, err := c.GetConfig(t.Context(), "")
	if err != nil || len(keys) != 1 || !keys[0].Live || len(keys[0].Jool) != 1 || keys[0].Jool[0].Value != "0:05:00" {
		t.Errorf("get %+v, %v", keys, err)
	}
	var refused *control.Error
	if _, err := c.GetConfig(t.Context(), "a&b=c"); !errors.As(err, &refused) || refused.Hint != "look at the list" {
		t.Errorf("get of an unknown key: %v", err)
	}
	r, err := c.SetConfig(t.Context(), control.ConfigChange{Key: "sessions.timeouts.udp", Value: "6m"})
	if err != nil || r.Name != "sessions.timeouts.udp" || r.Old != "5m" || r.New != "6m" {
		t.Errorf("set %+v, %v", r, err)
	}
	if r, err := c.Reload(t.Context()); err != nil || len(r.Changes) != 0 {
		t.Errorf("reload %+v, %v", r, err)
	}
}
