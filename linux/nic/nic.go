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
	names     []string // NICs to configure, sorted, without duplicates
	want      Wanted
	keep      func(Notes) error  // stores the notes so that they survive a crash
	originals map[int]originals  // by the index of a NIC
	seen      map[string]attempt // by the name of a NIC
}

// attempt is the result of the last SetUp of a NIC.
type attempt struct {
	index int
	up    bool
	loose bool     // its threads could not be confined; the warning has been returned
	napis []uint32 // its receive contexts
}

// New returns a manager of the named NICs; the names may contain duplicates. want are the values that their settings
// must have. old are the notes of a daemon that ended without PutBack. Before the manager changes a NIC, it calls keep
// with all settings to restore; if keep fails, the NIC is not changed.
func New(names []string, want Wanted, old Notes, keep func(Notes) error) *Manager {
	m := &Manager{names: slices.Compact(slices.Sorted(slices.Values(names))), want: maps.Clone(want), keep: keep,
		originals: map[int]originals{}, seen: map[string]attempt{}}
	for index, note := range old {
		m.originals[index] = parse(note)
	}
	return m
}

// SetUp configures each NIC that is new under its name or has come up, and restores NICs in the notes that are not, or no
// longer, managed. It does not repeat this for other NICs, so later changes by an administrator persist. It returns what
// it has changed and what failed, one sentence each. Call it on every link event.
func (m *Manager) SetUp() (changed []string, warnings []error) {
	managed := map[int]bool{}
	for _, name := range m.names {
		i, err := net.InterfaceByName(name)
		if err != nil {
			delete(m.seen, name)
			continue
		}
		managed[i.Index] = true
		last, now := m.seen[name], attempt{index: i.Index, up: i.Flags&net.FlagUp != 0}
		now.loose, now.napis = last.loose, m.contexts(i)
		want := m.want
		if last.index == i.Index && (last.up || !now.up) {
			want = m.lost(&last, &now)
		}
		c, w := m.setUp(i, want)
		changed, warnings = append(changed, c...), append(warnings, w...)
		if len(c) > 0 {
			now.napis = m.contexts(i)
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

// Switch turns a setting of all managed NICs on, or restores its original value. SetUp then does the same to new NICs. It
// returns the same as SetUp.
func (m *Manager) Switch(name string, on bool) (changed []string, warnings []error) {
	if on {
		m.want[name] = true
	} else {
		delete(m.want, name)
	}
	for _, n := range m.names {
		i, err := net.InterfaceByName(n)
		if err != nil || m.seen[n].index != i.Index {
			continue // SetUp will configure it
		}
		var c []string
		var w []error
		if on {
			c, w = m.setUp(i, Wanted{name: true})
			if err := m.confine(i); err != nil {
				w = append(w, err)
			}
		} else if was, noted := m.originals[i.Index][name]; noted {
			c, w = originals{name: was}.restore(i)
		}
		changed, warnings = append(changed, c...), append(warnings, w...)
	}
	return changed, warnings
}

// lost returns the wanted settings that a NIC has lost since the last SetUp: a driver that replaces its receive contexts
// forgets their threads.
func (m *Manager) lost(last, now *attempt) Wanted {
	if !m.want[Threaded] || len(now.napis) == 0 || slices.Equal(now.napis, last.napis) {
		return nil
	}
	return Wanted{Threaded: true}
}

// contexts returns the identifiers of the receive contexts of a NIC, if threads are wanted for them.
func (m *Manager) contexts(i *net.Interface) (ids []uint32) {
	if !m.want[Threaded] {
		return nil
	}
	ns, _ := napis(i) // without the family netdev, threads are a setting of the NIC
	for _, n := range ns {
		ids = append(ids, n.id)
	}
	return slices.Sorted(slices.Values(ids))
}

// PutBack restores the original settings of all NICs. It ignores a NIC that has been deleted, and a new one of the
// same name. The error lists the settings that could not be restored; the manager does not try them again.
func (m *Manager) PutBack() error {
	m.names = nil
	_, errs := m.SetUp()
	return errors.Join(errs...)
}

// setUp gives settings of a NIC their wanted values. It saves the original values first.
func (m *Manager) setUp(i *net.Interface, want Wanted) (changed []string, warnings []error) {
	had, wrong, warnings := differences(i, want)
	if len(wrong) == 0 {
		return nil, warnings
	}
	before := m.originals[i.Index]
	maps.Copy(had, before) // the values before a crash take precedence over those that the crashed daemon set
	m.originals[i.Index] = had
	if !maps.Equal(had, before) {
		if err := m.note(); err != nil {
			m.originals[i.Index] = before
			return nil, append(warnings, fmt.Errorf("%s not changed: cannot save its original settings: %w", i.Name, err))
		}
	}
	for _, s := range wrong {
		on := want[s.name]
		if err := s.write(i, on); err != nil {
			if !s.optional {
				warnings = append(warnings, s.refused(i, on, err))
			}
			if _, noted := before[s.name]; !noted {
				delete(had, s.name)
			}
			continue
		}
		changed = append(changed, s.of(i, on))
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
func differences(i *net.Interface, want Wanted) (had originals, wrong []*setting, warnings []error) {
	had = originals{}
	for n := range settings {
		s := &settings[n]
		value, wanted := want[s.name]
		if !wanted {
			continue
		}
		switch on, err := s.read(i); {
		case err != nil:
			warnings = append(warnings, s.refused(i, value, err))
		case on != value:
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
