package test

import (
	"go/ast"
	"go/build/constraint"
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

// imports lists the packages of the module that each package may import, tests excepted. Every folder with Go files
// has a row; the row of a command lists what it wires together.
var imports = map[string]string{
	"drop": "", "pool6": "", "table": "", "linux/ethtool": "", "linux/cpus": "", "deploy/container": "", "test/coredns": "", "test/kubernetes": "", "test/kubernetes/seccomp": "",
	"lab": "linux/ethtool", "linux/nic": "linux/ethtool",
	"packet":          "drop",
	"ops/metrics":     "drop",
	"ops/web":         "ops/control",
	"linux/afpacket":  "packet",
	"pool4":           "packet drop",
	"icmp":            "packet drop",
	"fragment":        "packet drop",
	"linux/nexthop":   "packet drop",
	"bib":             "table pool4 packet drop",
	"session":         "table bib pool4 packet drop",
	"synstore":        "packet drop",
	"state":           "session bib pool4 table packet drop",
	"xlat":            "icmp packet drop",
	"linux/guard":     "pool4 pool6",
	"linux/pair":      "packet",
	"ops/control":     "linux/syscalls",
	"ops/doctor":      "ops/control linux/ethtool linux/guard linux/nexthop pool4",
	"linux/sandbox":   "linux/syscalls",
	"linux/syscalls":  "",
	"config":          "pool4 pool6",
	"dns64":           "pool6",
	"egress":          "fragment icmp xlat packet ops/metrics drop",
	"gateway":         "bib config drop egress fragment icmp ops/metrics packet pool4 pool6 session synstore table xlat",
	"ops/trace":       "drop gateway packet session",
	"daemon":          "linux/afpacket bib config ops/control ops/trace dns64 drop fragment gateway linux/cpus linux/guard ops/doctor ops/metrics ops/web linux/nexthop linux/nic linux/pair linux/sandbox packet pool4 pool6 session state synstore table xlat",
	"demo":            "lab ops/control",
	"cmd/nat64d":      "daemon demo config ops/control",
	"cmd/nat64ctl":    "drop ops/control pool4",
	"test":            "",
	"test/bench":      "ops/control lab",
	"test/guest":      "lab",
	"test/bench-jool": "lab test/guest",
	"test/dissect":    "",
}

// unsafeAllowed are the only packages that may import unsafe.
var unsafeAllowed = []string{"linux/afpacket", "linux/syscalls", "table"}

// pure are the protocol packages: they do no I/O; time, randomness and addresses are arguments.
var pure = []string{"drop", "packet", "pool4", "pool6", "bib", "session", "synstore", "fragment", "icmp", "xlat"}

// impure are packages that a pure package must not import, and clock the functions of package time that it must not
// use. It may use durations.
var impure = []string{"os", "net", "net/http", "syscall", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog"}
var clock = []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}

// sources calls f for every Go file of the tree. It parses the files instead of calling go list, because go test
// would cache the result.
func sources(t *testing.T, f func(folder, path string, file *ast.File)) {
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
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(filepath.Dir(path)), path, file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// imported returns the imports of a file.
func imported(file *ast.File) (list []string) {
	for _, i := range file.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		list = append(list, p)
	}
	return list
}

// isPure reports whether a file belongs to a protocol package and is not a test.
func isPure(folder, path string) bool {
	return slices.Contains(pure, folder) && !strings.HasSuffix(path, "_test.go")
}

func TestImportsAreAllowed(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		allowed, known := imports[folder]
		if !known {
			t.Errorf("%s: no row of the design covers the folder %q", path, folder)
		}
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, p := range imported(file) {
			if ours, ok := strings.CutPrefix(p, "nat64d/"); ok && !slices.Contains(strings.Fields(allowed), ours) {
				t.Errorf("%s: %s may not import %s", path, folder, ours)
			}
		}
	})
}

// gopacket fills tables of 5 MB at each start, which would lengthen every restart of nat64d.
func TestDaemonIsFreeOfGopacket(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		if folder == "cmd/nat64ctl" || strings.HasPrefix(folder, "test/") || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, p := range imported(file) {
			if strings.HasPrefix(p, "github.com/google/gopacket") {
				t.Errorf("%s imports %s; only nat64ctl and tests may", path, p)
			}
		}
	})
}

// The packages below linux use its system calls, so their files need the build tag.
func TestLinuxFoldersAreTagged(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		if !strings.HasPrefix(folder, "linux/") {
			return
		}
		for _, group := range file.Comments {
			if group.Pos() > file.Package {
				break
			}
			for _, c := range group.List {
				if constraint.IsGoBuild(c.Text) && strings.Contains(c.Text, "linux") {
					return
				}
			}
		}
		t.Errorf("%s: lacks //go:build linux", path)
	})
}

func TestUnsafeIsRestricted(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		if slices.Contains(imported(file), "unsafe") && !slices.Contains(unsafeAllowed, folder) {
			t.Errorf("%s imports unsafe; only %v may", path, unsafeAllowed)
		}
	})
}

func TestProtocolPackagesDoNoIO(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		if !isPure(folder, path) {
			return
		}
		for _, p := range imported(file) {
			if slices.Contains(impure, p) {
				t.Errorf("%s: a protocol package may not import %s", path, p)
			}
		}
	})
}

func TestProtocolPackagesReadNoClock(t *testing.T) {
	sources(t, func(folder, path string, file *ast.File) {
		if !isPure(folder, path) || !slices.Contains(imported(file), "time") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && slices.Contains(clock, s.Sel.Name) {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
					t.Errorf("%s: a protocol package may not use time.%s: the time is an argument", path, s.Sel.Name)
				}
			}
			return true
		})
	})
}
