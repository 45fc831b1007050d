package main_test

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"nat64d/ops/control"
)

func (fake) AddPool6(c control.Pool6Change) (control.Pool6Result, error) {
	p, err := netip.ParsePrefix(c.Prefix)
	if err != nil {
		return control.Pool6Result{}, errors.New("pool6: not a prefix")
	}
	return control.Pool6Result{Prefix: p, Warnings: []string{"route it to this machine"}}, nil
}

func (fake) RemovePool6(c control.Pool6Change) (control.Pool6Result, error) {
	return control.Pool6Result{Prefix: netip.MustParsePrefix(c.Prefix), Sessions: 1}, nil
}

func (fake) Address(a netip.Addr) ([]control.AddressPair, error) {
	if a.Is6() {
		return nil, &control.Error{Message: a.String() + " lies in no prefix of pool6", Hint: "nat64ctl pool6 list shows them"}
	}
	return []control.AddressPair{{Prefix: netip.MustParsePrefix("64:ff9b::/96"), V6: netip.MustParseAddr("64:ff9b::c000:201"), V4: a}}, nil
}

// AddBinding returns the bindings of the request, so that the output shows its two sides.
func (fake) AddBinding(c control.BindingChange) (r control.BindingResult, err error) {
	if c.Mapped == "10.0.2.15:22" && !c.Force {
		return r, errors.New("sshd listens on port 22: force it (--force)")
	}
	if c.Mapped == "10.0.2.15:1" {
		return r, nil
	}
	if c.Mapped == "192.0.2.1:1" {
		return r, errors.New("192.0.2.1 is no address of pool4")
	}
	names := c.Protocols
	if len(names) == 0 {
		names = []string{"tcp", "udp", "icmp"}
	}
	for _, p := range names {
		r.Added = append(r.Added, bound(p, c.Client, c.Mapped))
	}
	return r, nil
}

func (f fake) RemoveBinding(c control.BindingChange) (r control.BindingResult, err error) {
	if len(c.Protocols) == 0 { // unordered and with a gap
		for _, b := range []string{"tcp 81 8001", "udp 80 8000", "tcp 83 8003", "tcp 80 8000", "tcp 85 8004", "udp 81 8001"} {
			f := strings.Fields(b)
			r.Removed = append(r.Removed, bound(f[0], "[2001:db8::5]:"+f[1], "10.0.2.15:"+f[2]))
		}
		return r, nil
	}
	return control.BindingResult{
		Removed:  []control.BindingRange{bound("tcp", "[2001:db8::5]:80", "10.0.2.15:7080")},
		Bindings: 1, Sessions: 2,
	}, nil
}

var configKeys = []control.ConfigKey{
	{Name: "sessions.timeouts.udp", Value: "10m", Default: "5m", Origin: "/etc/nat64d/nat64d.yaml:7", Live: true, Help: "lifetime of a UDP session", Jool: []control.JoolKey{{Name: "udp-timeout", Value: "0:10:00"}}},
	{Name: "translation.tos", Value: "copy", Default: "copy", Live: true, Help: "TOS towards IPv4", Jool: []control.JoolKey{{Name: "override-tos", Value: "false"}, {Name: "tos", Value: "0"}}},
	{Name: "api.group", Default: "a group with quite a long name", Help: "group of the users of the socket"},
}

func (fake) GetConfig(key string) ([]control.ConfigKey, error) {
	switch key {
	case "":
		return configKeys, nil
	case "udp-timeout", "sessions.timeouts.udp":
		return configKeys[:1], nil
	}
	return nil, errors.New(`unknown key "` + key + `"`)
}

func (fake) SetConfig(c control.ConfigChange) (control.ConfigResult, error) {
	if c.Key == "api.group" {
		return control.ConfigResult{}, errors.New("api.group cannot change while nat64d runs")
	}
	r := control.ConfigResult{Name: "sessions.timeouts.udp", Old: "10m", New: c.Value}
	if c.Persist {
		r.Persisted = "/etc/nat64d/conf.d/90-nat64ctl.yaml"
	}
	return r, nil
}

func (f fake) Reload() (control.ReloadResult, error) {
	if f.empty {
		return control.ReloadResult{}, nil
	}
	return control.ReloadResult{Changes: []control.ConfigResult{
		{Name: "deny_v4", New: "10.0.0.0/8"},
		{Name: "sessions.timeouts.udp", Old: "10m", New: "5m"},
	}}, nil
}

// bound returns the bindings for the arguments of a command line.
func bound(protocol, client, mapped string) control.BindingRange {
	r := control.BindingRange{Protocol: protocol, Count: 1}
	side := func(s string) (netip.Addr, uint16) {
		at := strings.LastIndexAny(s, ":#")
		first, last, ranged := strings.Cut(s[at+1:], "-")
		lo, _ := strconv.Atoi(first)
		if hi, _ := strconv.Atoi(last); ranged {
			r.Count = hi - lo + 1
		}
		return netip.MustParseAddr(strings.Trim(s[:at], "[]")), uint16(lo)
	}
	r.Client, r.ClientPort = side(client)
	r.Mapped, r.MappedPort = side(mapped)
	return r
}
