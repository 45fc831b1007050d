//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestMarkdownHasMediansAndRatios(t *testing.T) {
	t.Parallel()
	r := &report{versions: "Linux 6.12", repetitions: 3, gateways: []gateway{{name: kernelNAT}, {name: jool}, {name: "nat64d"}}}
	for _, v := range []float64{3, 1, 2} {
		r.put(kernelNAT, "lone", "M", v)
		r.put("nat64d", "lone", "M", 300*v)
	}
	r.put(jool, "lone", "M", 4)
	r.put(kernelNAT, "new flow", "", 123.4)
	r.fail(jool, "new flow", errTest)
	text := r.markdown()
	for _, want := range []string{
		"| instructions | nat44 | jool | nat64d |\n|---|---:|---:|---:|\n",
		"| lone, M | 2.00 (0.50) | 4.00 | 600 (150.00) |\n",
		"| new flow | 123 | - | - |\n",
		"\nLinux 6.12; ",
		"; medians of 3. ",
		"\nnot measured: jool: new flow: a failure\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

type testError string

func (e testError) Error() string { return string(e) }

const errTest = testError("a failure")

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
		ok     bool
	}{
		{nil, 0, false},
		{[]float64{5}, 5, true},
		{[]float64{9, 1}, 5, true},
		{[]float64{9, 1, 2}, 2, true},
		{[]float64{9, 1, 2, 4}, 3, true},
	} {
		if got, ok := median(tt.values); got != tt.want || ok != tt.ok {
			t.Errorf("median(%v) = %v, %v, want %v, %v", tt.values, got, ok, tt.want, tt.ok)
		}
	}
}

func TestReplaceTable(t *testing.T) {
	t.Parallel()
	page := "before\n" + beginMark + "old\n" + endMark + "after\n"
	got, err := replaceTable(page, "new\n")
	if want := "before\n" + beginMark + "\nnew\n\n" + endMark + "after\n"; got != want || err != nil {
		t.Errorf("replaceTable = %q, %v, want %q", got, err, want)
	}
	if again, err := replaceTable(got, "new\n"); again != got || err != nil {
		t.Errorf("a second replacement = %q, %v, want no change", again, err)
	}
	for _, page := range []string{"", beginMark, endMark, endMark + beginMark} {
		if got, err := replaceTable(page, "new\n"); err == nil {
			t.Errorf("replaceTable of %q = %q, want an error", page, got)
		}
	}
}
