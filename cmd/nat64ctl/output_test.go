package main

import (
	"bytes"
	"strings"
	"testing"
)

// The columns of a long table are aligned with the titles in every line: widths do not change, and a cell that is too wide
// shifts only its own line.
func TestColumnsStayUnderTheirTitles(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, format: formatTable}
	columns := []column[int]{
		{"NAME", "name", func(i int) string { return strings.Repeat("x", map[bool]int{true: 12, false: 3 + i%2}[i == 2500]) }, nil},
		{"REST", "rest", func(int) string { return "rest" }, nil},
		{"", "csv", func(int) string { return "only in csv" }, nil},
	}
	rows := make([]int, 3000)
	for i := range rows {
		rows[i] = i
	}
	if err := printAll(a, columns, rows); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != len(rows)+1 {
		t.Fatalf("%d lines, want %d", len(lines), len(rows)+1)
	}
	at := strings.Index(lines[0], "REST")
	for n, line := range lines {
		if wide := n == 2501; strings.Index(strings.ToLower(line), "rest") != at && !wide || strings.Contains(line, "csv") {
			t.Fatalf("line %d is %q, want its second column under the title at %d", n, line, at)
		}
	}
}

// Ranges of pool4 may be written in one word or in two.
func TestPoolChangeTakesBothForms(t *testing.T) {
	for args, want := range map[string][2]string{
		"10.0.2.15 7000-8000": {"10.0.2.15", "7000-8000"},
		"10.0.2.15:7000-8000": {"10.0.2.15", "7000-8000"},
		"10.0.2.15#7000":      {"10.0.2.15", "7000"},
		"10.0.2.0/28":         {"10.0.2.0/28", ""},
		"10.0.2.15:":          {"10.0.2.15:", ""}, // for nat64d to refuse
		"2001:db8::1":         {"2001:db8::1", ""},
	} {
		if c := poolChange(strings.Fields(args), new(protocolFlags), false); c.Addresses != want[0] || c.Ports != want[1] {
			t.Errorf("%s: addresses %q and ports %q, want %q", args, c.Addresses, c.Ports, want)
		}
	}
}
