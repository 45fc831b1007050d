package guard

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
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
	err := g.install()
	if err != nil {
		g.notes = old
	}
	return err
}

// Kept returns the notes in the table, also those of an earlier process, and none without a table.
func (g *Guard) Kept() (map[int]string, error) {
	notes := map[int]string{}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	sets, err := tableSets(c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(sets, func(s *nftables.Set) bool { return s.Name == notesSet })
	if i < 0 {
		return notes, nil
	}
	list, err := c.GetSetElements(sets[i])
	if err != nil {
		return nil, wrap("read table", err)
	}
	for _, e := range list {
		if len(e.Key) == 4 {
			notes[int(binary.NativeEndian.Uint32(e.Key))] = e.Comment
		}
	}
	return notes, nil
}

// addNotes adds the notes to the table, those of an earlier process if this one has none of its own.
func (g *Guard) addNotes(c *nftables.Conn, t *nftables.Table) (err error) {
	if g.notes == nil {
		if g.notes, err = g.Kept(); err != nil {
			return err
		}
	}
	set := &nftables.Set{Table: t, ID: notesID, Name: notesSet, KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian,
		Comment: "what nat64d has to put back"}
	var list []nftables.SetElement
	for _, index := range slices.Sorted(maps.Keys(g.notes)) {
		list = append(list, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(index)), Comment: g.notes[index]})
	}
	return addSet(c, set, list)
}
