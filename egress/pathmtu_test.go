package egress

import (
	"testing"
	"time"

	"nat64d/packet"
)

// Cached MTUs expire after ten minutes.
func TestPathsExpire(t *testing.T) {
	t.Parallel()
	const began = 40 * time.Second
	var p Paths
	a, b := packet.Addr4{192, 0, 2, 1}, packet.Addr4{192, 0, 2, 2}
	p.Learn(a, 600, began)
	p.Learn(b, 100, began)
	for after := time.Duration(0); after < 4*24*time.Hour; after += 41 * time.Second {
		want := 1500
		if after < pathLife {
			want = 600
		} else if after < pathLife+time.Minute {
			continue // the expiry has a resolution of one minute
		}
		if got := p.limit(a, 1500, began+after); got != want {
			t.Fatalf("after %v: %d bytes, want %d", after, got, want)
		}
	}
	if got := p.limit(b, 1500, began); got != minMTU4 {
		t.Errorf("100 bytes are stored as %d", got)
	}
	if got := p.limit(packet.Addr4{192, 0, 2, 3}, 1500, began); got != 1500 {
		t.Errorf("an unknown path has %d bytes", got)
	}
}
