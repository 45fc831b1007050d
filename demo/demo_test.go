//go:build linux

package demo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var escapes = regexp.MustCompile(`\x1b\[[0-9]*[A-Za-z]`)

// On a terminal each painting starts at the position of the previous one, and no line is wider than the smallest
// terminal.
func TestScreenRepaintsInPlace(t *testing.T) {
	t.Parallel()
	for _, text := range []scene{gatewayScene, nodeScene} {
		testRepainting(t, text)
	}
}

func testRepainting(t *testing.T, text scene) {
	t.Helper()
	var out strings.Builder
	s := &screen{out: &out, live: true, color: true, scene: text}
	s.start()
	s.begin("a step")
	s.update(figures{
		running: true, bindings: 12345678, sessions: 12345678, drops: 12345678901,
		v6: flow{in: 123.45e9, out: 1}, v4: flow{in: 999.9e6, out: 99.99e9},
	})
	s.done("12.34 Gbit/s, SHA-256 right")
	shown := out.String()
	blocks := regexp.MustCompile(`\x1b\[(\d+)A`).FindAllStringIndex(shown, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d repaintings, want 3", len(blocks))
	}
	for _, line := range strings.Split(escapes.ReplaceAllString(shown, ""), "\n") {
		if n := utf8.RuneCountInString(line); n > screenColumns {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	if !strings.Contains(shown, green) || !strings.Contains(shown, "sessions   12 M") {
		t.Errorf("the figures are missing:\n%s", shown)
	}
}

// In a file the screen neither repaints nor uses colors.
func TestScreenWithoutTerminal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newScreen(f, gatewayScene)
	s.start()
	s.begin("a step")
	s.update(figures{running: true, bindings: 1})
	s.done("fine")
	s.begin("another step")
	s.end()
	s.say("the end")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	if strings.Contains(text, "\x1b") {
		t.Errorf("the output contains escape sequences: %q", text)
	}
	if strings.Count(text, "┌ c6 ") != 1 || !strings.HasSuffix(text, "the end\n") {
		t.Errorf("want the picture once and the printed lines:\n%s", text)
	}
	for _, want := range []string{`✓ a step +fine`, `✗ another step +failed`} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("no line matches %s in\n%s", want, text)
		}
	}
}

func TestFormatRate(t *testing.T) {
	t.Parallel()
	for bits, want := range map[float64]string{0: "0.0 kbit/s", 1500: "1.5 kbit/s", 2.5e6: "2.5 Mbit/s", 12.345e9: "12.35 Gbit/s"} {
		if got := formatRate(bits); got != want {
			t.Errorf("%g: got %s, want %s", bits, got, want)
		}
	}
}

func TestCompactNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[uint64]string{
		0: "0", 9999: "9999", 10000: "10 k", 999_499: "999 k", 999_500: "1.0 M", 9_940_000: "9.9 M", 12_345_678_901: "12 G", 5e12: "5 T",
	} {
		if got := compact(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestTailKeepsLastLines(t *testing.T) {
	t.Parallel()
	l := tail{keep: 2}
	for _, text := range []string{"one\n", "two\nthree\n"} {
		if n, err := l.Write([]byte(text)); n != len(text) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := l.String(); got != "two\nthree" {
		t.Errorf("got %q", got)
	}
}
