//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"nat64d/config"
	"nat64d/ops/control"
)

// manuallyEnabled is Jool's key for a state that is not part of the configuration here: whether translation is
// paused.
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
		_, err := b.config().Get(key) // its error suggests a similar name
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

// setEnabled pauses or resumes translation through Jool's key.
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
		return control.ConfigResult{}, fmt.Errorf("%s is a state, not configuration, and cannot be saved: nat64d always starts with translation enabled", manuallyEnabled)
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
	r.Old, _ = old.Get(c.Key) // With has accepted the key
	r.New, _ = next.Get(c.Key)
	if err := b.changeLocked(next); err != nil {
		return control.ConfigResult{}, err
	}
	if c.Persist {
		if r.Persisted, err = next.Persist(b.options.File, b.options.Overrides, c.Key); err != nil {
			return control.ConfigResult{}, errors.Join(err, b.changeLocked(old)) // all of the request, or nothing
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
