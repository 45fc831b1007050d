package test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// imports says which of our packages a package may import, tests excepted. Every folder with Go files has a row; a
// command's row is what it wires together.
var imports = map[string]string{
	"drop": "", "pool6": "", "control": "", "table": "", "lab": "",
	"packet":       "drop",
	"metrics":      "drop",
	"afpacket":     "packet",
	"pool4":        "packet drop",
	"icmp":         "packet drop",
	"fragment":     "packet drop",
	"nexthop":      "packet drop",
	"bib":          "table pool4 packet drop",
	"session":      "table bib pool4 packet drop",
	"xlat":         "icmp packet drop",
	"guard":        "pool4 pool6",
	"config":       "pool4 pool6",
	"gateway":      "bib config drop fragment guard icmp metrics nexthop packet pool4 pool6 session table xlat",
	"cmd/nat64d":   "afpacket bib config control drop fragment gateway guard icmp lab metrics nexthop packet pool4 pool6 session table xlat",
	"cmd/nat64ctl": "control pool4",
	"test":         "",
	"test/bench":   "control lab",
}

// unsafeAllowed are the only packages that may import unsafe.
var unsafeAllowed = []string{"afpacket", "table"}

// pure are the protocol packages: time, randomness and addresses are arguments, and they do no I/O.
var pure = []string{"packet", "drop", "pool4", "pool6", "bib", "session", "icmp", "xlat"}

// impure are what a pure package must not import. The clock hides in package time, which is also where durations are.
var impure = []string{"os", "net", "net/http", "syscall", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}

// sources calls f for every Go file of the tree. It reads the files themselves and not go list, whose answer go test
// would cache.
func sources(t *testing.T, f func(folder, path string, imports []string)) {
	root := os.DirFS("..")
	err := fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		var list []string
		for _, i := range file.Imports {
			p, _ := strconv.Unquote(i.Path.Value)
			list = append(list, p)
		}
		f(filepath.ToSlash(filepath.Dir(path)), path, list)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFormTheDesignedGraph(t *testing.T) {
	sources(t, func(folder, path string, list []string) {
		allowed, known := imports[folder]
		if !known {
			t.Errorf("%s: no row of the design covers the folder %q", path, folder)
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, p := range list {
			if ours, ok := strings.CutPrefix(p, "nat64d/"); ok && !slices.Contains(strings.Fields(allowed), ours) {
				t.Errorf("%s: %s may not import %s", path, folder, ours)
			}
		}
	})
}

func TestUnsafeStaysWhereItIs(t *testing.T) {
	sources(t, func(folder, path string, list []string) {
		if slices.Contains(list, "unsafe") && !slices.Contains(unsafeAllowed, folder) {
			t.Errorf("%s imports unsafe; only %v may", path, unsafeAllowed)
		}
	})
}

func TestProtocolPackagesDoNoIO(t *testing.T) {
	sources(t, func(folder, path string, list []string) {
		if strings.HasSuffix(path, "_test.go") || !slices.Contains(pure, folder) {
			return
		}
		for _, p := range list {
			if slices.Contains(impure, p) {
				t.Errorf("%s: a protocol package may not import %s", path, p)
			}
		}
	})
}
