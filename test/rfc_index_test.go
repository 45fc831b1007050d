package test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The page on RFCs and the list of requirements.
const (
	rfcPage      = "../docs/rfc.md"
	requirements = "testdata/requirements.txt"
)

// rfcRows returns the rows of the tables of requirements: ID, source, level, requirement, and evidence.
func rfcRows(t *testing.T) (rows [][]string) {
	t.Helper()
	for line := range strings.Lines(read(t, rfcPage)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 5 && cells[0] != " ID" {
			for i := range cells {
				cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], `\|`, "|"))
			}
			rows = append(rows, cells)
		}
	}
	return rows
}

// The page has one row for every requirement of the list, in the same words and order.
func TestRFCPageHasEveryRequirement(t *testing.T) {
	t.Parallel()
	rows := map[string][]string{}
	var got, want []string
	for _, row := range rfcRows(t) {
		if rows[row[0]] != nil {
			t.Errorf("%s: %s has two rows", rfcPage, row[0])
		}
		rows[row[0]] = row
		got = append(got, row[0])
	}
	for line := range strings.Lines(read(t, requirements)) {
		r := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(r) != 4 {
			t.Fatalf("%s: %q is not ID, source, level and requirement", requirements, line)
		}
		want = append(want, r[0])
		if row := rows[r[0]]; row == nil {
			t.Errorf("%s: no row for %s: %s", rfcPage, r[0], r[3])
		} else if !slices.Equal(row[:4], r) {
			t.Errorf("%s: the row %q differs from the requirement %q", rfcPage, row[:4], r)
		}
	}
	for _, id := range got {
		if !slices.Contains(want, id) {
			t.Errorf("%s: there is no requirement %s", rfcPage, id)
		}
	}
	if len(want) == 0 {
		t.Errorf("%s is empty", requirements)
	}
}

// Every row of the page names existing tests, or gives a reason why there are none.
func TestRFCPageNamesTests(t *testing.T) {
	t.Parallel()
	known := declared(t)
	named := regexp.MustCompile("`([^`]*)`")
	for _, row := range rfcRows(t) {
		id, shown := row[0], row[4]
		count := 0
		for _, m := range named.FindAllStringSubmatch(shown, -1) {
			if name := m[1]; isTest(name) {
				count++
				if !known.has(name) {
					t.Errorf("%s: %s: there is no test %s", rfcPage, id, name)
				}
			}
		}
		kind, why, _ := strings.Cut(shown, ":")
		switch {
		case kind == "n/a" || kind == "deviates":
			if len(strings.TrimSpace(why)) < 10 {
				t.Errorf("%s: %s: %q gives no reason", rfcPage, id, shown)
			}
		case count == 0:
			t.Errorf("%s: %s: %q is neither a test nor n/a: nor deviates: with a reason", rfcPage, id, shown)
		}
	}
}

func isTest(name string) bool {
	return regexp.MustCompile(`^([a-z0-9/]+\.)?(Test|Fuzz|Benchmark)`).MatchString(name)
}

// tests are the test functions of the tree by name, such as session.TestModel, with the possible names of their
// subtests.
type tests map[string]map[string]bool

// has reports whether a test exists. A subtest exists if its name is a string in the file of the test, or the ID of a
// vector in a file that the test reads.
func (ts tests) has(name string) bool {
	m := regexp.MustCompile(`^(.*?\b(?:Test|Fuzz|Benchmark)\w*)(?:/(.*))?$`).FindStringSubmatch(name)
	subtests, ok := ts[m[1]]
	return ok && (m[2] == "" || subtests[m[2]])
}

// declared parses the test files itself, because go test does not track changes to them.
func declared(t *testing.T) tests {
	t.Helper()
	all := tests{}
	walk(t, "_test.go", func(path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		folder := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(path)), "../") + "."
		if folder == "test." {
			folder = ""
		}
		names := stringsOf(t, file, filepath.Dir(path))
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && isTest(f.Name.Name) {
				all[folder+f.Name.Name] = names
			}
		}
	})
	return all
}

// stringsOf returns the strings in a file, in the form of subtest names, and the IDs of the vectors in the files that
// it names.
func stringsOf(t *testing.T, file *ast.File, folder string) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		l, ok := n.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return true
		}
		s, err := strconv.Unquote(l.Value)
		if err != nil {
			t.Fatal(err)
		}
		names[strings.ReplaceAll(s, " ", "_")] = true
		if filepath.Ext(s) == ".json" {
			maps.Copy(names, vectorIDs(t, filepath.Join(folder, "testdata", filepath.Base(s))))
		}
		return true
	})
	return names
}

// vectorIDs returns the IDs of the vectors in a file, or none if it has no vectors.
func vectorIDs(t *testing.T, path string) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	b, err := os.ReadFile(path)
	if err != nil {
		return ids
	}
	var file struct{ Vectors []struct{ ID string } }
	if json.Unmarshal(b, &file) == nil {
		for _, v := range file.Vectors {
			ids[v.ID] = true
		}
	}
	return ids
}

// walk calls f for every file of the tree whose name ends in suffix.
func walk(t *testing.T, suffix string, f func(path string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != ".." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, suffix):
			f(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The index at the end of the page contains every RFC cited in the code.
func TestRFCIndexIsComplete(t *testing.T) {
	t.Parallel()
	indexed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| \[RFC (\d+)\]`).FindAllStringSubmatch(read(t, rfcPage), -1) {
		indexed[m[1]] = true
	}
	cited := regexp.MustCompile(`RFC[\s/]+(\d{3,5})\b`) // a citation may be broken over two lines of a comment
	walk(t, ".go", func(path string) {
		for _, m := range cited.FindAllStringSubmatch(read(t, path), -1) {
			if !indexed[m[1]] {
				t.Errorf("%s cites RFC %s, which the index of %s lacks", path, m[1], rfcPage)
			}
		}
	})
}
