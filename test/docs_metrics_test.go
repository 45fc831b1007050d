package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"nat64d/ops/metrics"
)

// The page on metrics is made of the catalogue, in the same order. UPDATE_DOCS=1 writes it.
func TestDocsMetrics(t *testing.T) {
	t.Parallel()
	const path, from, to = "../docs/metrics.md", "<!-- the catalogue: UPDATE_DOCS=1 go test -run TestDocsMetrics ./test -->\n", "<!-- end -->\n"
	page := read(t, path)
	before, rest, found := strings.Cut(page, from)
	_, after, ended := strings.Cut(rest, to)
	if !found || !ended {
		t.Fatalf("%s lacks the line %q or %q", path, from, to)
	}
	want := before + from + catalogueTable() + to + after
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if page == want {
		return
	}
	for line := range strings.Lines(catalogueTable()) {
		if !strings.Contains(page, line) {
			t.Errorf("%s lacks the line %s", path, line)
		}
	}
	t.Errorf("%s does not have the catalogue: run UPDATE_DOCS=1 go test -run TestDocsMetrics ./test", path)
}

// catalogueTable returns the catalogue in Markdown.
func catalogueTable() string {
	var b strings.Builder
	b.WriteString("| name | type | unit | labels | meaning |\n|---|---|---|---|---|\n")
	for id := range metrics.IDs {
		row := id.Row()
		labels := ""
		if len(row.Labels) > 0 {
			labels = "`" + strings.Join(row.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %v | %s | %s | %s |\n", row.Name, row.Type, row.Unit, labels, row.Help)
	}
	return b.String()
}
