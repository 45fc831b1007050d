package config

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	Place   string // path of the file, or name of the environment variable or of the flag, with its dashes; may be empty
	Line    int    // of the file; 0 when no single line is at fault
	Key     string // path of the key, such as pool4[0].ports; may be empty
	Message string // what is wrong and what would be right
}

// OnCommandLine reports whether the command line is at fault, or nothing is that has a place.
func (p Problem) OnCommandLine() bool { return p.Place == "" || strings.HasPrefix(p.Place, "--") }

// String returns the problem as one line: where, what, why.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(position{p.Place, p.Line}.String())
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems is the error of a configuration that was refused: all that is wrong with it, in the order of the files and
// their lines. It is never empty.
type Problems []Problem

// Error returns the problems, one a line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts the problems of each file in the order of its lines. Files keep the order in which they were read.
// Variables and flags follow, and then missing keys, which have no place: an earlier mistake may be why they are missing.
func (ps Problems) sorted(files []string) Problems {
	place := func(p Problem) int {
		if i := slices.Index(files, p.Place); i >= 0 {
			return i
		}
		if p.Place != "" {
			return len(files)
		}
		return len(files) + 1
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(place(a), place(b)),
			cmp.Compare(a.Line, b.Line),
		)
	})
	return ps
}
