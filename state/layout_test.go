//go:build linux

package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/bib"
)

// layouts has the files of a process of each layout, and what they contain in the file "contents".
const layouts = "testdata/layout%d"

// TestLayoutsStayReadable restores the files that each layout's program has left, so that no upgrade ends sessions.
// With NAT64D_WRITE_LAYOUT it writes those of the present layout instead.
func TestLayoutsStayReadable(t *testing.T) {
	if os.Getenv("NAT64D_WRITE_LAYOUT") != "" {
		writeLayout(t)
	}
	for layout := 1; layout <= Layout; layout++ {
		from := fmt.Sprintf(layouts, layout)
		want, err := os.ReadFile(filepath.Join(from, "contents"))
		if err != nil {
			t.Fatal(err)
		}
		path := memory(t)
		present(t, from, path)
		p, report, err := begin(t, path, conf, "1024-65535")
		if err != nil {
			t.Fatalf("layout %d: %v", layout, err)
		}
		if got := p.contents(); got != string(want) || len(report.Refused) > 0 {
			t.Errorf("layout %d: %+v, got\n%swant\n%s", layout, report, got, want)
		}
		p.end()
	}
}

// contents describes the sessions and the ports in hold-down.
func (p *process) contents() string {
	var lines []string
	for _, r := range p.all() {
		r.Remaining = r.Remaining.Round(time.Minute)
		lines = append(lines, fmt.Sprintf("%x\n", r.AppendBinary(nil)))
	}
	for m, left := range p.held() {
		lines = append(lines, fmt.Sprintf("held %v %v %v\n", m.proto, m.mapped, left.Round(time.Minute)))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// present copies the files of a layout as if they were of this boot and namespace, and their process had just died.
func present(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(to, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name := range sizes {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, "1", name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(from, "header"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := decodeHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := os.ReadFile(filepath.Join(from, alive))
	if err != nil {
		t.Fatal(err)
	}
	now := Monotonic()
	lived := time.Duration(binary.NativeEndian.Uint64(stamp)) - h.Start
	h.Boot, h.Namespace, h.Start = bootID(), namespace(), now-lived
	if b, err = h.encode(); err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"header": b, alive: binary.NativeEndian.AppendUint64(nil, uint64(now))} {
		if err := os.WriteFile(filepath.Join(to, "1", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("1", filepath.Join(to, current)); err != nil {
		t.Fatal(err)
	}
}

// writeLayout writes the files of the present layout, without the zeros at their ends.
func writeLayout(t *testing.T) {
	path, r := memory(t), rand.New(rand.NewPCG(11, 12))
	p, _, _ := begin(t, path, conf, "1024-65535")
	for range 60 {
		p.step(r)
	}
	p.sessions.Purge(func(b bib.Binding) bool { return b.Client.Addr[15] < 60 })
	p.bindings.Pool().Expire(p.now().Duration(), 1)
	p.dir.Alive()
	if err := p.dir.Update(func(h *Header) { h.Boot, h.Namespace = "another", 1 }); err != nil {
		t.Fatal(err)
	}
	to := fmt.Sprintf(layouts, Layout)
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range append([]string{"header", alive}, keysOfSizes()...) {
		b, err := os.ReadFile(filepath.Join(path, "1", name))
		if err != nil {
			t.Fatal(err)
		}
		if end := len(bytes.TrimRight(b, "\x00")); name != alive {
			b = b[:min(len(b), (end+63)&^63)]
		}
		if err := os.WriteFile(filepath.Join(to, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(to, "contents"), []byte(p.contents()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.end()
}

func keysOfSizes() (names []string) {
	for name := range sizes {
		names = append(names, name)
	}
	return names
}
