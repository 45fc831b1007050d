//go:build linux

package nic

import (
	"maps"
	"net"
	"os"
	"strings"
	"testing"
)

// The loopback has neither LRO nor an unknown feature.
func TestFeatureMissingOrUnchangeable(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root: settings of NICs")
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"rx-lro", "rx-nothing"} {
		s := feature(name, name)
		if on, err := s.read(lo); on || err != nil {
			t.Errorf("%s is on: %v (%v)", name, on, err)
		}
		if err := s.write(lo, true); err == nil || !strings.Contains(err.Error(), "does not have this feature") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := On("nosuch0"); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("a NIC that does not exist: %v", err)
	}
}

func FuzzNote(f *testing.F) {
	for _, note := range []string{"", "rx-gro=off threaded=off", "rx-lro=on", "rx-gro threaded=maybe =on", "rx-gro=on rx-gro=off"} {
		f.Add(note)
	}
	f.Fuzz(func(t *testing.T, note string) {
		o := parse(note)
		text := o.String()
		if len(text) > 100 || !maps.Equal(parse(text), o) {
			t.Errorf("%q is read as %v, which is written %q", note, o, text)
		}
	})
}
