package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// advice is a pattern for phrasing that readers stumble over, and the wording to use instead. A space also matches a line break.
type advice struct{ pattern, instead string }

// phrases apply to comments, to strings with several words, and to pages, in any case.
var phrases = []advice{
	{`\b(says?|tells?) (whether|if)\b`, "reports whether"},
	{`^\w+ says (what|which|how|where|when|why|who)\b`, "returns, selects or holds: the verb for what the code does"},
	{`(^|\n\n|[.:;] )(who|whoever) \w+`, "name the actor: a host that …, the caller"},
	{`(^|\n\n|\. )what [^?.:#|]*[.,;]`, "begin with a noun, not with a clause"},
	{`\b(whoever|whosoever|whomever|whatsoever)\b`, "name the actor"},
	{`\b(nobody|somebody|everybody|anybody)\b`, "name the actor: no client, every process, another station"},
	{`\bbut for\b`, "except for"},
	{`\b(is|are|was|were|be|been|being) told\b`, "say what is sent, logged, returned or distinguished"},
	{`\bshall\b`, "must"},
	{`\bfor want of\b`, "say what is missing or full"},
	{`\b(goes|go|going|went) on\b`, "continues"},
	{`\blest\b`, "so that … does not"},
	{`\bin vain\b`, "without result"},
	{`\b(is|are) well[.;,]`, "is allowed, works"},
	{`\b(makes?|made|making) way\b`, "is evicted, is closed"},
	{`\b(is|are|was|were) to be\b`, "must be, will be"},
	{`\b(no more than|as well as|as much as|as many as) (it|they) (may|can)\b`, "state the limit or the mechanism"},
	{`, for (it|they|he|what|that|there|then|who)\b`, "because"},
	{`\bbeside\b`, "with, next to, besides"},
	{`\banew\b`, "again"},
	{`\bone in (a )?(million|thousand)s?\b`, "state the probability"},
	{`\b(untruths?|stumbled|hastily|hasty)\b`, "the field's term"},
	{`\b(come|comes|came) (to nothing|about)\b`, "say what fails or happens"},
	{`\b(all|what) (that )?there is\b`, "name it"},
	{`\bnothing is to\b|\bnothing to be done\b`, "say what happens now"},
	{`\bhas the word\b`, "takes precedence"},
	{`\bone inside another\b`, "nested"},
	{`\b(is|are|was|were) taken for\b`, "is treated as"},
	{`\bbe (it|they)\b`, "even if"},
}

// testNames apply to the names of tests.
var testNames = []advice{
	{`(What|Who|Whose|Nobody|Everybody|Somebody)[A-Z]`, "function or feature, condition, result"},
	{`(IsSaid|IsTold|AreTold|SaysSo|ComeAbout|Beside|MakesWay|MakeWay|InVain|Anew)`, "function or feature, condition, result"},
}

// identifiers maps declared names to the term of the field to use instead, by the kind of declaration.
var identifiers = map[string]map[string]string{
	"type":  {"moment": "the packet context", "lots": "portBlocks", "parts": "daemon", "names": "dns64Service"},
	"func":  {"Hold": "Acquire", "Drop": "Release", "yield": "tryRelease", "bury": "finalize"},
	"field": {"hair": "hairpinBuf", "near": "localRoutes", "lots": "portBlocks", "moment": "the packet context"},
}

// text is a piece of prose and its position.
type text struct {
	path string
	line int
	body string
}

// compile compiles a pattern. A space in it also matches where a comment or a paragraph is wrapped.
func compile(pattern string) *regexp.Regexp {
	return regexp.MustCompile("(?i)" + strings.ReplaceAll(pattern, " ", `(?: |\s*\n[\s/#>]*)`))
}

// report fails the test for each match of a row of the table in the texts.
func report(t *testing.T, table []advice, texts []text) {
	t.Helper()
	for _, a := range table {
		re := compile(a.pattern)
		for _, x := range texts {
			for _, at := range re.FindAllStringIndex(x.body, -1) {
				line := x.line + strings.Count(x.body[:at[0]], "\n")
				t.Errorf("%s:%d: %q: write: %s", x.path, line, strings.TrimSpace(x.body[at[0]:at[1]]), a.instead)
			}
		}
	}
}

// checked reports whether the phrases apply to a file: to all files but this one, which quotes them.
func checked(path string) bool { return filepath.Base(path) != "english_test.go" }

// prose returns the comment groups of a Go file and its strings with several words.
func prose(fset *token.FileSet, path string, file *ast.File) (texts []text) {
	marks := regexp.MustCompile(`(?m)^\s*// ?`)
	for _, g := range file.Comments {
		var lines []string
		for _, c := range g.List {
			lines = append(lines, marks.ReplaceAllString(c.Text, ""))
		}
		texts = append(texts, text{path, fset.Position(g.Pos()).Line, strings.Join(lines, "\n")})
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING && strings.Count(l.Value, " ") > 1 {
			texts = append(texts, text{path, fset.Position(l.Pos()).Line, l.Value[1:]})
		}
		return true
	})
	return texts
}

// Comments, messages and help texts are plain technical English: an actor, an active verb, the mechanism.
func TestEnglishOfCode(t *testing.T) {
	t.Parallel()
	var texts, names []text
	walk(t, ".go", func(path string) {
		if !checked(path) {
			return
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, prose(fset, path, file)...)
		for _, d := range declarations(file) {
			at := fset.Position(d.pos)
			if instead := identifiers[d.kind][d.name]; instead != "" {
				t.Errorf("%s:%d: the %s %s: name it %s", path, at.Line, d.kind, d.name, instead)
			}
			if d.kind == "func" && isTest(d.name) {
				names = append(names, text{path, at.Line, d.name})
			}
		}
	})
	report(t, phrases, texts)
	for _, a := range testNames {
		re := regexp.MustCompile(a.pattern)
		for _, n := range names {
			if re.MatchString(n.body) {
				t.Errorf("%s:%d: %s: name it after %s", n.path, n.line, n.body, a.instead)
			}
		}
	}
}

// declaration is the name of a function, a type or a field.
type declaration struct {
	kind, name string
	pos        token.Pos
}

func declarations(file *ast.File) (list []declaration) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			list = append(list, declaration{"func", n.Name.Name, n.Name.Pos()})
		case *ast.TypeSpec:
			list = append(list, declaration{"type", n.Name.Name, n.Name.Pos()})
		case *ast.StructType:
			for _, f := range n.Fields.List {
				for _, name := range f.Names {
					list = append(list, declaration{"field", name.Name, name.Pos()})
				}
			}
		}
		return true
	})
	return list
}

// The pages, the reference configuration, the Makefile and the scripts read like the code. Of a row on RFCs only the last
// cell is ours.
func TestEnglishOfDocs(t *testing.T) {
	t.Parallel()
	var texts []text
	for _, pattern := range []string{"../*.md", "../docs/*.md", "../config/*.yaml", "../Makefile", "../scripts/*", "../deploy/*/*", "../deploy/*/*/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text{path, 1, ours(string(b))})
		}
	}
	report(t, phrases, texts)
}

// ours blanks the cells of a page that quote an RFC's requirement.
func ours(page string) string {
	lines := strings.Split(page, "\n")
	for i, line := range lines {
		if cells := strings.Split(line, " | "); len(cells) == 5 {
			lines[i] = fmt.Sprintf("| | | | | %s", cells[4])
		}
	}
	return strings.Join(lines, "\n")
}
