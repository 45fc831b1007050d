//go:build linux

package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/pool4"
	"nat64d/pool6"
)

// manuallyEnabled is Jool's key for what is a state here, not configuration: whether translation is paused.
const manuallyEnabled = "manually-enabled"

// GetConfig implements control.Backend.
func (b *backend) GetConfig(key string) ([]control.ConfigKey, error) {
	var list []control.ConfigKey
	for _, k := range config.Keys() {
		if key != "" && key != k.Name && !slices.Contains(k.Jool, key) {
			continue
		}
		row, err := b.key(k)
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	if key == "" || key == manuallyEnabled {
		enabled := strconv.FormatBool(!b.gateway.Paused())
		list = append(list, control.ConfigKey{
			Name: manuallyEnabled, Value: enabled, Default: "true", Live: true, Help: "packets are translated (nat64ctl pause, resume)",
			Jool: []control.JoolKey{{Name: manuallyEnabled, Value: enabled}},
		})
	}
	if len(list) == 0 {
		_, err := b.config().Get(key) // it says what the name may have been meant to be
		return nil, err
	}
	return list, nil
}

func (b *backend) key(k config.Key) (row control.ConfigKey, err error) {
	c := b.config()
	row = control.ConfigKey{Name: k.Name, Help: k.Help, Live: k.Live}
	if row.Origin, err = c.Origin(k.Name); err != nil {
		return row, err
	}
	if row.Value, err = c.Get(k.Name); err != nil {
		return row, err
	}
	if row.Default, err = config.Default().Get(k.Name); err != nil {
		return row, err
	}
	for _, name := range k.Jool {
		value, err := c.Get(name)
		if err != nil {
			return row, err
		}
		row.Jool = append(row.Jool, control.JoolKey{Name: name, Value: value})
	}
	return row, nil
}

// setEnabled pauses or resumes by Jool's key.
func (b *backend) setEnabled(value string) (control.ConfigResult, error) {
	enabled, err := strconv.ParseBool(strings.ToLower(value))
	if err != nil {
		return control.ConfigResult{}, fmt.Errorf("%s %q: must be true or false", manuallyEnabled, value)
	}
	r := control.ConfigResult{Name: manuallyEnabled, Old: strconv.FormatBool(!b.gateway.Paused()), New: strconv.FormatBool(enabled)}
	if enabled {
		return r, b.Resume()
	}
	return r, b.Pause()
}

// SetConfig implements control.Backend.
func (b *backend) SetConfig(c control.ConfigChange) (control.ConfigResult, error) {
	switch {
	case c.Key == manuallyEnabled && c.Persist:
		return control.ConfigResult{}, fmt.Errorf("%s is a state, not configuration, and cannot be kept: nat64d always starts translating", manuallyEnabled)
	case c.Key == manuallyEnabled:
		return b.setEnabled(c.Value)
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	old := b.config()
	next, err := old.With(c.Key, c.Value)
	if err != nil {
		return control.ConfigResult{}, err
	}
	r := control.ConfigResult{Name: c.Key}
	r.Old, _ = old.Get(c.Key) // With has found the key
	r.New, _ = next.Get(c.Key)
	if err := b.change(next); err != nil {
		return control.ConfigResult{}, err
	}
	if c.Persist {
		if r.Persisted, err = next.Persist(b.options.File, b.options.Overrides, c.Key); err != nil {
			return control.ConfigResult{}, errors.Join(err, b.change(old)) // all of what was asked, or nothing
		}
	}
	return r, nil
}

// Reload implements control.Backend.
func (b *backend) Reload() (control.ReloadResult, error) {
	changes, err := b.reload()
	if err != nil {
		return control.ReloadResult{}, err
	}
	r := control.ReloadResult{Changes: make([]control.ConfigResult, len(changes))}
	for i, c := range changes {
		r.Changes[i] = control.ConfigResult{Name: c.Name, Old: c.Old, New: c.New}
	}
	return r, nil
}

// AddPool6 implements control.Backend.
func (b *backend) AddPool6(c control.Pool6Change) (control.Pool6Result, error) {
	return b.changePool6(c, (*config.Config).WithPool6)
}

// RemovePool6 implements control.Backend.
func (b *backend) RemovePool6(c control.Pool6Change) (control.Pool6Result, error) {
	return b.changePool6(c, (*config.Config).WithoutPool6)
}

func (b *backend) changePool6(c control.Pool6Change, with func(*config.Config, string) (*config.Config, error)) (control.Pool6Result, error) {
	prefix, err := pool6.ParsePrefix(c.Prefix)
	if err != nil {
		return control.Pool6Result{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	next, err := with(b.config(), c.Prefix)
	if err != nil {
		return control.Pool6Result{}, err
	}
	before := b.sessions()
	if err := b.change(next); err != nil {
		return control.Pool6Result{}, err
	}
	return control.Pool6Result{Prefix: prefix.Prefix(), Sessions: max(0, before-b.sessions())}, nil
}

// sessions counts the sessions of all protocols.
func (b *backend) sessions() (n int) {
	for _, p := range protocols {
		n += b.gateway.Sessions.Len(p)
	}
	return n
}

// Address implements control.Backend.
func (b *backend) Address(a netip.Addr) (pairs []control.AddressPair, err error) {
	prefixes := b.config().Pool6
	if a.Is4() {
		for i := range prefixes {
			p := &prefixes[i]
			pairs = append(pairs, control.AddressPair{Prefix: p.Prefix(), V6: netip.AddrFrom16(p.Embed(a.As4())), V4: a})
		}
		return pairs, nil
	}
	v6 := a.As16()
	n, ok := pool6.Match(prefixes, &v6)
	if !ok {
		return nil, &control.Error{Message: fmt.Sprintf("%v lies in no prefix of pool6", a), Hint: "nat64ctl pool6 list shows them"}
	}
	p := &prefixes[n]
	return []control.AddressPair{{Prefix: p.Prefix(), V6: a, V4: netip.AddrFrom4(p.Extract(&v6))}}, nil
}

// AddBinding implements control.Backend.
func (b *backend) AddBinding(c control.BindingChange) (control.BindingResult, error) {
	ranges, err := config.ParseBinding(c.Protocols, c.Client, c.Mapped)
	if err != nil {
		return control.BindingResult{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	added := expand(ranges).minus(b.static)
	if err := b.guard.cover(nil, added, nil, b.near.bypass); err != nil {
		return control.BindingResult{}, fmt.Errorf("nothing was added: %w", err)
	}
	if err := b.bind(added, c.Force || b.config().Host.Force); err != nil {
		_ = b.guard.settle() // back to what it was; the status tells if it cannot be
		return control.BindingResult{}, err
	}
	r := control.BindingResult{}
	for _, row := range ranges {
		r.Added = append(r.Added, bindingRange(row.Mapped, row.Client))
	}
	if err := b.settled(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

func bindingRange(m pool4.Entry, client netip.AddrPort) control.BindingRange {
	return control.BindingRange{
		Protocol: m.Proto.String(), Client: client.Addr(), ClientPort: client.Port(), Mapped: m.Addr, MappedPort: m.Lo, Count: int(m.Hi-m.Lo) + 1,
	}
}

// RemoveBinding implements control.Backend.
func (b *backend) RemoveBinding(c control.BindingChange) (control.BindingResult, error) {
	match, err := matcher(c)
	if err != nil {
		return control.BindingResult{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	r := control.BindingResult{}
	for m, client := range b.static {
		if match(bib.Binding{Proto: m.Proto, Client: endpoint6(client), Mapped: endpoint4(m)}) {
			delete(b.static, m)
			r.Removed = append(r.Removed, bindingRange(m, client))
		}
	}
	slices.SortFunc(r.Removed, func(x, y control.BindingRange) int {
		return cmp.Or(strings.Compare(x.Protocol, y.Protocol), x.Mapped.Compare(y.Mapped), cmp.Compare(x.MappedPort, y.MappedPort))
	})
	r.Bindings, r.Sessions = b.gateway.Sessions.Purge(match)
	if r.Bindings == 0 && len(r.Removed) == 0 {
		return control.BindingResult{}, &control.Error{Message: "there is no such binding", Hint: "nat64ctl bib list shows them"}
	}
	if err := b.settled(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// matcher returns what tells the bindings that a removal means.
func matcher(c control.BindingChange) (func(bib.Binding) bool, error) {
	if c.Client == "" && c.Mapped == "" {
		return nil, fmt.Errorf("name the binding's IPv6 or IPv4 transport address, or both")
	}
	side := func(s string) (config.Endpoint, error) {
		if s == "" {
			return config.Endpoint{}, nil
		}
		if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil { // all of its ports
			return config.Endpoint{Addr: a, Hi: math.MaxUint16}, nil
		}
		return config.ParseEndpoint(s)
	}
	client, err := side(c.Client)
	if err != nil {
		return nil, err
	}
	mapped, err := side(c.Mapped)
	if err != nil {
		return nil, err
	}
	protos := c.Protocols
	in := func(e config.Endpoint, a netip.Addr, port uint16) bool {
		return !e.Addr.IsValid() || e.Addr == a && e.Lo <= port && port <= e.Hi
	}
	return func(row bib.Binding) bool {
		return (len(protos) == 0 || slices.Contains(protos, row.Proto.String())) &&
			in(client, netip.AddrFrom16(row.Client.Addr), row.Client.Port) &&
			in(mapped, netip.AddrFrom4(row.Mapped.Addr), row.Mapped.Port)
	}, nil
}
