//go:build linux

package guest

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseAnswer(t *testing.T) {
	t.Parallel()
	code, output, err := parseAnswer("3 " + base64.StdEncoding.EncodeToString([]byte("a\nb\n")) + "\n")
	if code != 3 || output != "a\nb" || err != nil {
		t.Errorf("parseAnswer = %d, %q, %v", code, output, err)
	}
	if code, output, err := parseAnswer("0 \n"); code != 0 || output != "" || err != nil {
		t.Errorf("without output: %d, %q, %v", code, output, err)
	}
	for _, line := range []string{"", "x YQ==\n", "0 ?\n"} {
		if _, _, err := parseAnswer(line); err == nil {
			t.Errorf("%q was accepted", line)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add("0 YQ==\n")
	f.Fuzz(func(t *testing.T, line string) { _, _, _ = parseAnswer(line) })
}

func TestConsoleKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var c console
	for range 3 {
		if n, err := c.Write(make([]byte, consoleSize)); n != consoleSize || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := c.Write([]byte("panic")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if got := c.tail(); len(got) != consoleSize || !strings.HasSuffix(got, "panic") {
		t.Errorf("kept %d bytes that end with %q", len(got), got[len(got)-5:])
	}
}

func TestArchiveHasFilesWithTheirModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := archive(&b, map[string]string{"/usr/local/sbin/a": path}); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	h, err := r.Next()
	if err != nil || h.Name != "usr/local/sbin/a" || h.Mode != 0o755 {
		t.Fatalf("first entry %+v, %v", h, err)
	}
	if text, err := io.ReadAll(r); string(text) != "text" || err != nil {
		t.Errorf("contents %q, %v", text, err)
	}
	if err := archive(io.Discard, map[string]string{"/a": path + "x"}); err == nil {
		t.Error("a missing file was accepted")
	}
}

func TestFindKernel(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "boot"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"vmlinuz-6.1.0-50-amd64", "vmlinuz-6.12.117-amd64"} {
		if err := os.WriteFile(filepath.Join(root, "boot", name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := kernel{"/boot/vmlinuz-6.1.0-50-amd64", "/boot/initrd.img-6.1.0-50-amd64"}
	if k, err := findKernel(root, Debian12); k != want || err != nil {
		t.Errorf("findKernel = %v, %v", k, err)
	}
	for _, version := range []string{"6", "7"} {
		if k, err := findKernel(root, version); err == nil {
			t.Errorf("findKernel(%s) = %v, want an error", version, k)
		}
	}
}
