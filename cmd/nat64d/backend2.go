package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"nat64d/config"
	"nat64d/control"
	"nat64d/pool6"
)

var errNotAvailable = errors.New("not available in this version")

// privateV4 returns what the configuration says of the Well-Known Prefix.
func privateV4(c *config.Config) config.PrivateV4 {
	if i := slices.IndexFunc(c.Pool6, pool6.Prefix.IsWellKnown); i >= 0 {
		return c.PrivateV4[i]
	}
	return config.PrivateV4Auto
}

// AddPool6 implements control.Backend.
func (b *backend) AddPool6(control.Pool6Change) (control.Pool6Result, error) {
	return control.Pool6Result{}, errNotAvailable
}

// RemovePool6 implements control.Backend.
func (b *backend) RemovePool6(control.Pool6Change) (control.Pool6Result, error) {
	return control.Pool6Result{}, errNotAvailable
}

// Address implements control.Backend.
func (b *backend) Address(a netip.Addr) (pairs []control.AddressPair, err error) {
	if a.Is4() {
		for _, p := range b.conf.Pool6 {
			pairs = append(pairs, control.AddressPair{Prefix: p.Prefix(), V6: netip.AddrFrom16(p.Embed(a.As4())), V4: a})
		}
		return pairs, nil
	}
	v6 := a.As16()
	n, ok := pool6.Match(b.conf.Pool6, &v6)
	if !ok {
		return nil, &control.Error{Message: fmt.Sprintf("%v lies in no prefix of pool6", a), Hint: "nat64ctl pool6 list shows them"}
	}
	p := b.conf.Pool6[n]
	return []control.AddressPair{{Prefix: p.Prefix(), V6: a, V4: netip.AddrFrom4(p.Extract(&v6))}}, nil
}

// AddBinding implements control.Backend.
func (b *backend) AddBinding(control.BindingChange) (control.BindingResult, error) {
	return control.BindingResult{}, errNotAvailable
}

// RemoveBinding implements control.Backend.
func (b *backend) RemoveBinding(control.BindingChange) (control.BindingResult, error) {
	return control.BindingResult{}, errNotAvailable
}

// GetConfig implements control.Backend.
func (b *backend) GetConfig(string) ([]control.ConfigKey, error) { return nil, errNotAvailable }

// SetConfig implements control.Backend.
func (b *backend) SetConfig(control.ConfigChange) (control.ConfigResult, error) {
	return control.ConfigResult{}, errNotAvailable
}

// Reload implements control.Backend.
func (b *backend) Reload() (control.ReloadResult, error) {
	return control.ReloadResult{}, errNotAvailable
}
