package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A test that skips itself proves nothing. The only reason to do so is that a user who is not root has no namespaces to
// test in, and continuous integration is no such user.
func TestNothingIsSkippedAsRoot(t *testing.T) {
	if os.Getenv("CI") != "" && os.Geteuid() != 0 {
		t.Error("continuous integration must run the tests as root: what needs it would be skipped")
	}
	model := []string{`"nothing held"`, `"no such slot"`} // package rapid's way to say that an action does not apply
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
				t.Errorf("%s:%d skips for another reason than that it needs root", path, i+1)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
