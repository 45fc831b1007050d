//go:build linux

package guard_test

import (
	"maps"
	"strings"
	"testing"

	"nat64d/linux/guard"
)

// A second guard finds the notes of the first one and keeps them until Remove.
func TestKeptReturnsNotesOfEarlierProcess(t *testing.T) {
	t.Parallel()
	l := network(t)
	kept := func(g *guard.Guard) (notes map[int]string) {
		do(t, l, func() (err error) { notes, err = g.Kept(); return err })
		return notes
	}
	crashed := guard.New(options(l))
	if got := kept(crashed); len(got) != 0 {
		t.Errorf("notes %v without a table", got)
	}
	apply(t, l, crashed, entries(t, "192.0.2.1", "7000-8000"))
	notes := map[int]string{2: "rx-gro=off threaded=off", 70000: "rx-lro=on"}
	do(t, l, func() error { return crashed.Keep(notes) })

	next := guard.New(options(l))
	apply(t, l, next, entries(t, "192.0.2.1", "9000"))
	if got := kept(next); !maps.Equal(got, notes) {
		t.Errorf("after a crash the table keeps %v, want %v", got, notes)
	}
	if out := run(t, l, "nft", "list", "ruleset"); !strings.Contains(out, `comment "rx-gro=off threaded=off"`) {
		t.Errorf("nft does not show the notes:\n%s", out)
	}
	run(t, l, "nft", "flush", "ruleset")
	check(t, l, next)
	if got := kept(next); !maps.Equal(got, notes) {
		t.Errorf("after the table was flushed it keeps %v, want %v", got, notes)
	}
	delete(notes, 2)
	do(t, l, func() error { return next.Keep(notes) })
	if got := kept(next); !maps.Equal(got, notes) {
		t.Errorf("notes %v, want %v", got, notes)
	}
	do(t, l, func() error {
		if err := next.Keep(map[int]string{2: strings.Repeat("x", guard.MaxNote+1)}); err == nil {
			t.Error("Keep accepted a note that is too long")
		}
		return nil
	})
	do(t, l, next.Remove)
	if got := kept(next); len(got) != 0 {
		t.Errorf("notes %v after the table was removed", got)
	}
}
