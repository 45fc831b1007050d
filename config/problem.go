package config

import (
	"cmp"
	"slices"
	"strings"
)

// Problem is one mistake in a configuration.
type Problem struct {
	Place   string // path of the file, name of the environment variable, or flag with its dashes; may be empty
	Line    int    // line in the file, or 0
	Key     string // path of the key, such as pool4[0].ports; may be empty
	Message string // the mistake and a correct value
}

// OnCommandLine reports whether the problem is with a flag or with a key that no source sets.
func (p Problem) OnCommandLine() bool { return p.Place == "" || strings.HasPrefix(p.Place, "--") }

// String returns the problem in one line.
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

// Problems is the error of a refused configuration. It has all problems in the order of the files and their lines, and is
// never empty.
type Problems []Problem

// Error returns the problems, one per line.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// sorted orders the problems by file and line. Files keep the order in which they were read. Variables and flags follow, and
// then missing keys, which have no place: an earlier mistake may be the cause that they are missing.
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
