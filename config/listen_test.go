package config_test

import (
	"fmt"
	"strings"
	"testing"

	"nat64d/config"
)

func TestParseListen(t *testing.T) {
	t.Parallel()
	long := "unix:/" + strings.Repeat("x", 107)
	for text, want := range map[string]string{
		"":                        "off",
		":9464":                   "[[::1]:9464 127.0.0.1:9464]",
		"192.0.2.1:9464":          "[192.0.2.1:9464]",
		"[2001:db8::1]:9464":      "[[2001:db8::1]:9464]",
		"[fe80::1%eth0]:9464":     "[[fe80::1%eth0]:9464]",
		"0.0.0.0:1":               "[0.0.0.0:1]",
		"unix:/run/m.sock":        "/run/m.sock",
		"9464":                    "did you mean :9464?",
		"localhost:9464":          "did you mean :9464?",
		"*:9464":                  "did you mean [::]:9464, which",
		"/run/m.sock":             "did you mean unix:/run/m.sock?",
		"192.0.2.1":               "did you mean 192.0.2.1:9464?",
		"2001:db8::1":             "did you mean [2001:db8::1]:9464?",
		":0":                      "must be :9464 (both",
		":65536":                  "must be :9464 (both",
		":":                       "must be :9464 (both",
		"[::1]":                   "must be :9464 (both",
		"example.net:9464":        "must be :9464 (both",
		"unix:":                   "needs an absolute path",
		"unix:run/m.sock":         "needs an absolute path",
		"unix:/run/":              "needs an absolute path",
		long:                      "has 108 bytes, but can have 107",
		"[fe80::1]:9464":          "needs its interface",
		"[ff02::1]:9464":          "is a multicast address",
		"[2001:db8::1%eth0]:9464": "must not name an interface",
	} {
		l, err := config.ParseListen(text)
		got := fmt.Sprint(l.Addrs)
		switch {
		case err != nil:
			got = err.Error()
		case l.Off():
			got = "off"
		case l.Path != "":
			got = l.Path
		}
		if err == nil && got != want || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if err == nil && l.String() != text {
			t.Errorf("%q: String returns %q", text, l)
		}
	}
}

func FuzzParseListen(f *testing.F) {
	for _, text := range []string{"", ":9464", "192.0.2.1:9464", "[fe80::1%eth0]:9464", "unix:/run/m.sock", "9464"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := config.ParseListen(text)
		if err != nil {
			return
		}
		if again, err := config.ParseListen(l.String()); err != nil || fmt.Sprint(again) != fmt.Sprint(l) {
			t.Errorf("%q is read as %v, and that as %v, %v", text, l, again, err)
		}
		if ways := len(l.Addrs); l.Off() != (text == "") || !l.Off() && (ways > 0) == (l.Path != "") {
			t.Errorf("%q: %+v", text, l)
		}
		for _, a := range l.Addrs {
			if !a.IsValid() || a.Port() == 0 {
				t.Errorf("%q: %v", text, a)
			}
		}
	})
}
