package gateway

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// order returns the files of the package comment, top-down.
func order(t *testing.T) (list []string) {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+\.go) `).FindAllSubmatch(doc, -1) {
		list = append(list, string(m[1]))
	}
	return list
}

// hollow imports packages without what is in them: the calls between the files of this one need no other.
type hollow struct{}

func (hollow) Import(p string) (*types.Package, error) {
	pkg := types.NewPackage(p, path.Base(p))
	pkg.MarkComplete()
	return pkg, nil
}

// A file uses functions and methods of files that stand below it in the package comment, and of none above.
func TestFilesCallOnlyDownwards(t *testing.T) {
	t.Parallel()
	files := order(t)
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var parsed []*ast.File
	for _, p := range paths {
		if strings.HasSuffix(p, "_test.go") || p == "doc.go" {
			continue
		}
		if !slices.Contains(files, p) {
			t.Errorf("the package comment does not list %s", p)
		}
		f, err := parser.ParseFile(set, p, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	c := types.Config{Importer: hollow{}, Error: func(error) {}} // what comes from other packages is not resolved
	_, _ = c.Check("gateway", set, parsed, info)
	calls := 0
	for id, object := range info.Uses {
		f, ok := object.(*types.Func)
		if !ok || !f.Pos().IsValid() {
			continue
		}
		from, to := set.Position(id.Pos()), set.Position(f.Origin().Pos())
		if from.Filename == to.Filename {
			continue
		}
		calls++
		if slices.Index(files, from.Filename) > slices.Index(files, to.Filename) {
			t.Errorf("%v uses %s of %s, which stands above", from, f.Name(), to.Filename)
		}
	}
	if calls < 100 {
		t.Errorf("only %d uses of functions of another file were found", calls)
	}
}

// A worker holds parts with names, and nothing of the packet that it is at.
func TestStructsStaySmall(t *testing.T) {
	t.Parallel()
	for _, s := range []reflect.Type{reflect.TypeFor[worker](), reflect.TypeFor[Gateway](), reflect.TypeFor[inflight](), reflect.TypeFor[parking]()} {
		if s.NumField() > 15 {
			t.Errorf("%v has %d fields, want 15 at most", s, s.NumField())
		}
	}
}
