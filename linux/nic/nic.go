//go:build linux

// Package nic configures the NICs for throughput while the daemon runs, and restores their settings. It enables
// generic receive offload (GRO), which coalesces received packets, and threaded NAPI. The scheduler shares a core
// fairly between NAPI threads and the gateway (RFC 6146); soft interrupts would spend all of it on packets that the
// gateway then has no time to process.
package nic

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
)

// Notes are the original settings to restore, by the index of a NIC, as text that is valid in an nftables comment.
// The kernel does not reuse the index of a NIC, and the notes do not outlive a reboot.
type Notes = map[int]string

// Manager configures NICs and restores them. It works in the network namespace of the calling thread, which must be
// the same for all calls; the setting threaded also needs a /sys of that namespace. A Manager is not safe for
// concurrent use.
type Manager struct {
	names     []string           // NICs to configure, sorted, without duplicates
	leave     []string           // settings that are not touched
	keep      func(Notes) error  // stores the notes so that they survive a crash
	originals map[int]originals  // by the index of a NIC
	seen      map[string]attempt // by the name of a NIC
}

// attempt is the result of the last SetUp of a NIC.
type attempt struct {
	index int
	up    bool
	whole bool // every setting has the wanted value
	loose bool // its threads could not be confined; the warning has been returned
}

// New returns a manager of the named NICs; the names may contain duplicates. It changes all settings except those in
// leave. old are the notes of a daemon that ended without PutBack. Before the manager changes a NIC, it calls keep
// with all settings to restore; if keep fails, the NIC is not changed.
func New(names, leave []string, old Notes, keep func(Notes) error) *Manager {
	m := &Manager{names: slices.Compact(slices.Sorted(slices.Values(names))), leave: leave, keep: keep,
		originals: map[int]originals{}, seen: map[string]attempt{}}
	for index, note := range old {
		m.originals[index] = parse(note)
	}
	return m
}

// SetUp configures each NIC that is new under its name, and each that was down when it refused a setting and is now
// up. It does not repeat this for other NICs, so later changes by an administrator persist. It restores NICs in the
// notes that are not, or no longer, managed. It returns what it has changed and what failed, one sentence each. Call
// it on every link event.
func (m *Manager) SetUp() (changed []string, warnings []error) {
	managed := map[int]bool{}
	for _, name := range m.names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			delete(m.seen, name)
			continue
		}
		managed[i.Index] = true
		up := i.Flags&net.FlagUp != 0
		last := m.seen[name]
		now := attempt{index: i.Index, up: up, whole: last.whole}
		if last.index != i.Index || !last.whole && !last.up && up {
			c, w := m.setUp(i)
			now.whole = len(w) == 0
			changed, warnings = append(changed, c...), append(warnings, w...)
		}
		if err := m.confine(i); err != nil {
			now.loose = true
			if !last.loose {
				warnings = append(warnings, err)
			}
		}
		m.seen[name] = now
	}
	c, w := m.putBackBut(managed)
	return append(changed, c...), append(warnings, w...)
}

// PutBack restores the original settings of all NICs. It ignores a NIC that has been deleted, and a new one of the
// same name. The error lists the settings that could not be restored; the manager does not try them again.
func (m *Manager) PutBack() error {
	m.names = nil
	_, errs := m.SetUp()
	return errors.Join(errs...)
}

// setUp gives all settings of a NIC their wanted values. It saves the original values first.
func (m *Manager) setUp(i *net.Interface) (changed []string, warnings []error) {
	had, wrong, warnings := m.differences(i)
	if len(wrong) == 0 {
		return nil, warnings
	}
	before := m.originals[i.Index]
	maps.Copy(had, before) // the values before a crash take precedence over those that the crashed daemon set
	m.originals[i.Index] = had
	if err := m.note(); err != nil {
		m.originals[i.Index] = before
		return nil, append(warnings, fmt.Errorf("%s not changed: cannot save its original settings: %w", i.Name, err))
	}
	for _, s := range wrong {
		if err := s.write(i, s.want); err != nil {
			warnings = append(warnings, s.refused(i, err))
			if _, noted := before[s.name]; !noted {
				delete(had, s.name)
			}
			continue
		}
		changed = append(changed, s.of(i, s.want))
	}
	return changed, warnings
}

// confine restricts the NAPI threads of the NIC to the processors of this program, if this manager has enabled them.
// SetUp calls it each time, because drivers replace their threads.
func (m *Manager) confine(i *net.Interface) error {
	if !m.threads(i) {
		return nil
	}
	return confine(i)
}

// differences returns the current values of the settings of a NIC that differ from the wanted values, and those
// settings.
func (m *Manager) differences(i *net.Interface) (had originals, wrong []*setting, warnings []error) {
	had = originals{}
	for n := range settings {
		s := &settings[n]
		if slices.Contains(m.leave, s.name) {
			continue
		}
		switch on, err := s.read(i); {
		case err != nil:
			warnings = append(warnings, s.refused(i, err))
		case on != s.want:
			wrong, had[s.name] = append(wrong, s), on
		}
	}
	return had, wrong, warnings
}

// putBackBut restores the NICs in the notes that are not managed, and removes them from the notes.
func (m *Manager) putBackBut(managed map[int]bool) (changed []string, warnings []error) {
	forgotten := false
	for index, had := range m.originals {
		if managed[index] {
			continue
		}
		if i, err := net.InterfaceByIndex(index); err == nil {
			c, w := had.restore(i)
			changed, warnings = append(changed, c...), append(warnings, w...)
		}
		delete(m.originals, index)
		forgotten = true
	}
	if forgotten {
		if err := m.note(); err != nil {
			warnings = append(warnings, fmt.Errorf("cannot remove restored settings from the notes, the next start may restore them again: %w", err))
		}
	}
	return changed, warnings
}

// restore restores the settings of a NIC in reverse order: a veth without GRO has no NAPI threads to disable.
func (o originals) restore(i *net.Interface) (changed []string, warnings []error) {
	for n := range settings {
		s := &settings[len(settings)-1-n]
		on, noted := o[s.name]
		if !noted {
			continue
		}
		now, err := s.read(i)
		if err == nil && now == on {
			continue
		}
		if err == nil {
			err = s.write(i, on)
		}
		if err != nil {
			warnings = append(warnings, fmt.Errorf("cannot restore %s: %w", s.of(i, on), err))
			continue
		}
		changed = append(changed, s.of(i, on))
	}
	return changed, warnings
}

// note saves all settings to restore.
func (m *Manager) note() error {
	notes := Notes{}
	for index, had := range m.originals {
		if len(had) > 0 {
			notes[index] = had.String()
		}
	}
	return m.keep(notes)
}
