package icmp_test

import (
	"testing"

	"nat64d/icmp"
)

func TestSplitIgnoresLengthOutOfRange(t *testing.T) {
	body := make([]byte, 200)
	for words, want := range map[uint8]int{0: 200, 31: 200, 32: 128, 40: 160, 50: 200, 255: 200} {
		original, extensions := icmp.Split(body, words, 4)
		if len(original) != want || len(original)+len(extensions) != 200 {
			t.Errorf("length %d: %d quoted and %d extension bytes, want %d quoted", words, len(original), len(extensions), want)
		}
	}
}

func TestFit(t *testing.T) {
	for name, row := range map[string]struct {
		n, ext, room, unit int
		quote, padding     int
		extended           bool
	}{
		"no extensions":        {100, 0, 548, 4, 100, 0, false},
		"too long":             {1300, 0, 548, 4, 548, 0, false},
		"padded to 128":        {88, 12, 548, 4, 88, 40, true},
		"padded to the unit":   {201, 12, 1232, 8, 201, 7, true},
		"quote shortened":      {1300, 12, 548, 4, 536, 0, true},
		"extensions too long":  {300, 500, 548, 4, 300, 0, false},
		"just enough for both": {300, 420, 548, 4, 128, 0, true},
	} {
		q, p, x := icmp.Fit(row.n, row.ext, row.room, row.unit)
		if q != row.quote || p != row.padding || x != row.extended {
			t.Errorf("%s: quote %d, padding %d, extended %v; want %d, %d, %v", name, q, p, x, row.quote, row.padding, row.extended)
		}
		if x && (q+p)%row.unit != 0 {
			t.Errorf("%s: %d bytes is not a multiple of %d", name, q+p, row.unit)
		}
	}
}
