//go:build linux

// Package nic sets the NICs up for speed while the daemon runs, and puts them back. It has receive offload coalesce what
// arrives (GRO), and the kernel do so in threads of its own (threaded NAPI), which the scheduler shares a core with fairly:
// soft interrupts, for packets that will be lost anyway, leave a core no time for the gateway (RFC 6146) itself.
package nic

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
)

// Notes say what is to be put back: by the index of a NIC, the settings that were changed and what they were, as text
// that fits a comment. An index is that of a NIC for as long as the NIC exists; nothing of it outlives the machine.
type Notes = map[int]string

// Manager sets NICs up and puts them back. It acts in the network namespace of the calling thread, always the same one,
// and for the setting threaded on what is mounted on /sys. One goroutine at a time may use it.
type Manager struct {
	names     []string           // of the NICs to set up, each once
	leave     []string           // settings that are not touched
	keep      func(Notes) error  // makes the notes outlive a crash
	originals map[int]originals  // by the index of a NIC
	seen      map[string]attempt // by the name of a NIC
}

// attempt is what SetUp has found and done at a NIC.
type attempt struct {
	index int
	up    bool
	whole bool // every setting is what it should be
	loose bool // its threads could not be confined, which has been said
}

// New returns a manager of the NICs with these names, which may be the same; it sets up all but the settings in leave. The old
// notes are those that a daemon before this one kept when it ended without PutBack. Before a NIC is changed, keep is called with all that there is to put back
// from then on; with an error of it the NIC stays as it is.
func New(names, leave []string, old Notes, keep func(Notes) error) *Manager {
	m := &Manager{names: slices.Compact(slices.Sorted(slices.Values(names))), leave: leave, keep: keep,
		originals: map[int]originals{}, seen: map[string]attempt{}}
	for index, note := range old {
		m.originals[index] = parse(note)
	}
	return m
}

// SetUp sets up what is not: a NIC that is new under its name, or one that refused something and was down. The settings
// of others stay as somebody may have changed them since. NICs that are noted but not, or no longer, to be set up are put
// back. It returns what it has changed and what it could not, a sentence each. Call it on every link event.
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

// PutBack gives all NICs back what they had. A NIC that has gone, and another that has come under its name, is left
// alone. What cannot be put back is in the error, and is noted no longer.
func (m *Manager) PutBack() error {
	m.names = nil
	_, errs := m.SetUp()
	return errors.Join(errs...)
}

// setUp makes the settings of a NIC what they should be. Nothing is changed that is not noted.
func (m *Manager) setUp(i *net.Interface) (changed []string, warnings []error) {
	had, wrong, warnings := m.differences(i)
	if len(wrong) == 0 {
		return nil, warnings
	}
	before := m.originals[i.Index]
	maps.Copy(had, before) // what was there before a crash, and not what the crashed daemon left
	m.originals[i.Index] = had
	if err := m.note(); err != nil {
		m.originals[i.Index] = before
		return nil, append(warnings, fmt.Errorf("%s stays as it is, for what it was cannot be noted: %w", i.Name, err))
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

// confine keeps the NIC's threads to the processors of this program if it was this program that switched them on: those of
// others stay where they want them. Drivers make new threads at times, so it is for each SetUp.
func (m *Manager) confine(i *net.Interface) error {
	if had, noted := m.originals[i.Index]["threaded"]; !noted || had {
		return nil
	}
	return confine(i)
}

// differences returns the settings of a NIC that are not what they should be, and what they are.
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

// putBackBut puts back what is noted of NICs that are not managed, and forgets it.
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
			warnings = append(warnings, fmt.Errorf("the next start may put back what has been put back: %w", err))
		}
	}
	return changed, warnings
}

// restore makes the settings of a NIC what they were, the last first: a veth without GRO has no threads to switch off.
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
			warnings = append(warnings, fmt.Errorf("%s as before: %w", s.of(i, on), err))
			continue
		}
		changed = append(changed, s.of(i, on))
	}
	return changed, warnings
}

// note keeps what is to be put back.
func (m *Manager) note() error {
	notes := Notes{}
	for index, had := range m.originals {
		if len(had) > 0 {
			notes[index] = had.String()
		}
	}
	return m.keep(notes)
}
