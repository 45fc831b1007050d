package test

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"
)

// presumesLock matches the sentence of a function's comment that names the lock which the caller holds.
var presumesLock = regexp.MustCompile(`(?i)\bcallers? holds? (the locks? |[a-zA-Z0-9.]+\b)`)

// A function that presumes a lock has the suffix Locked, so that each call shows it, and its comment names the lock.
func TestLockedSuffix(t *testing.T) {
	sources(t, func(_, path string, file *ast.File) {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || strings.HasPrefix(f.Name.Name, "Test") {
				continue
			}
			doc := strings.Join(strings.Fields(f.Doc.Text()), " ")
			said, named := presumes(doc), strings.HasSuffix(f.Name.Name, "Locked")
			switch {
			case said && !named:
				t.Errorf("%s: %s presumes a lock: its name ends in Locked", path, f.Name.Name)
			case named && !said:
				t.Errorf("%s: %s: the comment names the lock: \"The caller holds x.mu.\"", path, f.Name.Name)
			}
		}
	})
}

// presumes reports whether a comment names a lock that the caller holds.
func presumes(doc string) bool {
	for _, m := range presumesLock.FindAllString(doc, -1) {
		if !strings.HasSuffix(m, "holds no") && !strings.HasSuffix(m, "hold no") {
			return true
		}
	}
	return false
}

func TestPresumesReadsComments(t *testing.T) {
	t.Parallel()
	for doc, want := range map[string]bool{
		"grow copies the slots. The caller holds the lock of s.":   true,
		"add puts a port at the end; the caller holds q.mu.":       true,
		"commit replaces the rows. Callers hold p.mu for writing.": true,
		"drain calls f for each. The caller holds no lock.":        false,
		"At returns a copy of a binding.":                          false,
	} {
		if presumes(doc) != want {
			t.Errorf("%q: presumes a lock: %v, want %v", doc, !want, want)
		}
	}
}
