package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Tests may be skipped only because a user without root privileges cannot create namespaces. Continuous integration
// runs as root, so that a skipped test cannot hide a failure.
func TestSkipsNeedRoot(t *testing.T) {
	if os.Getenv("CI") != "" && os.Geteuid() != 0 {
		t.Error("continuous integration must run the tests as root: what needs it would be skipped")
	}
	model := []string{`"nothing held"`, `"no such slot"`} // for actions of package rapid that do not apply
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "skip_test.go" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(string(text), "\n")
		for i, l := range lines {
			if !strings.Contains(l, ".Skip(") && !strings.Contains(l, ".SkipNow(") && !strings.Contains(l, ".Skipf(") {
				continue
			}
			root := i > 0 && (strings.Contains(lines[i-1], "os.Geteuid() != 0 {") || strings.Contains(lines[i-1], "os.Getuid() != 0 {"))
			if !root && !strings.Contains(l, model[0]) && !strings.Contains(l, model[1]) {
				t.Errorf("%s:%d skips for a reason other than missing root privileges", path, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
