//go:build linux

package guard

import (
	"fmt"
	"maps"
)

// MaxNote is the maximum length of a note in bytes, limited by the size of a comment in nft(8).
const MaxNote = 127

// Keep stores notes in the table, by the indexes of interfaces, for a later process in case Remove is never called.
// They replace earlier notes. Like the state that they describe, the table lasts as long as the network namespace.
// Call Keep after Apply.
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

// Kept returns the notes in the table, including those of an earlier process. Without a table there are none.
func (g *Guard) Kept() (map[int]string, error) {
	l, err := read()
	if l == nil {
		return nil, err
	}
	return l.kept(), err
}
