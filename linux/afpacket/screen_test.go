//go:build linux

package afpacket

import (
	"os"
	"testing"

	"nat64d/packet"
)

// A screen that a closed port gives back serves the next port, and Load counts those in use.
func TestScreensAreReused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("BPF needs root")
	}
	var s Screens
	take := func() *screen {
		t.Helper()
		c, err := s.take(packet.V6)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := take()
	if err := s.Load(packet.V6, 2); err != nil {
		t.Fatal(err)
	}
	second := take()
	if n := s.loaded[packet.V6]; n != 2 || first == second {
		t.Errorf("%d screens are loaded, want 2", n)
	}
	s.giveBack(first)
	if again := take(); again != first {
		t.Error("a new screen although one was free")
	}
	if n := s.loaded[packet.V4]; n != 0 {
		t.Errorf("%d screens of the other family are loaded", n)
	}
	s.giveBack(first)
	s.giveBack(second)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
