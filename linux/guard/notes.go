//go:build linux

package guard

import (
	"fmt"
	"maps"
)

// MaxNote is how long a note may be, in bytes: a comment of nft(8) has room for no more.
const MaxNote = 127

// Keep has the table keep notes, by the indexes of interfaces, for a process that comes after this one if Remove is never
// called. They replace those that were there. The table is the right place for it: like what is noted of an interface, it
// lasts as long as the network namespace and no longer. Call it after Apply.
func (g *Guard) Keep(notes map[int]string) error {
	for index, note := range notes {
		if len(note) > MaxNote {
			return fmt.Errorf("note of interface %d: %d bytes, must be at most %d", index, len(note), MaxNote)
		}
	}
	old := g.notes
	g.notes = maps.Clone(notes)
	_, err := g.install()
	if err != nil {
		g.notes = old
	}
	return err
}

// Kept returns the notes in the table, also those of an earlier process, and none without a table.
func (g *Guard) Kept() (map[int]string, error) {
	l, err := read()
	if l == nil {
		return nil, err
	}
	return l.kept(), err
}
