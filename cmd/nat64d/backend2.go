package main

import (
	"errors"
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
