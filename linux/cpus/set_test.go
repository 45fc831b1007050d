//go:build linux

package cpus

import "testing"

func TestListsAreParsedAndWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Set{
		"":          {},
		"0\n":       Of(0),
		"0-3,8":     Of(0, 1, 2, 3, 8),
		"1,63-64":   Of(1, 63, 64),
		"1022-1023": Of(1022, 1023),
	} {
		s, err := ParseList(text)
		if err != nil || s != want {
			t.Errorf("ParseList(%q): %v, %v, want %v", text, s, err, want)
		}
	}
	if s := Of(5, 4, 3, 0, 9, 11, 10).String(); s != "0,3-5,9-11" {
		t.Error(s)
	}
	for _, text := range []string{"x", "1-", "3-1", "-1", "1024", "0,,1", "0-9999999999"} {
		if s, err := ParseList(text); err == nil {
			t.Errorf("ParseList(%q): %v, want an error", text, s)
		}
	}
}

func TestMasksAreParsed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Set{
		"0\n":                        {},
		"3":                          Of(0, 1),
		"f0000000":                   Of(28, 29, 30, 31),
		"1,00000002":                 Of(1, 32),
		"00000000,00000000,00000001": Of(0),
	} {
		s, err := ParseMask(text)
		if err != nil || s != want {
			t.Errorf("ParseMask(%q): %v, %v, want %v", text, s, err, want)
		}
	}
	for _, text := range []string{"", "g", "1,", "100000000", "-1"} {
		if s, err := ParseMask(text); err == nil {
			t.Errorf("ParseMask(%q): %v, want an error", text, s)
		}
	}
}

func FuzzParseList(f *testing.F) {
	for _, text := range []string{"", "0-3,8", "1023", "5-2", "0-1,1-4"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseList(text)
		if err != nil {
			return
		}
		if again, err := ParseList(s.String()); err != nil || again != s {
			t.Errorf("%q: %v, again %v (%v)", text, s, again, err)
		}
	})
}

func FuzzParseMask(f *testing.F) {
	for _, text := range []string{"0", "ffffffff,00000001", "3\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseMask(text); err != nil && !s.Empty() {
			t.Errorf("%q: %v with the error %v", text, s, err)
		}
	})
}
