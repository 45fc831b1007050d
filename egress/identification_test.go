package egress

import (
	"testing"

	"nat64d/packet"
)

func TestIdentificationsRepeatLate(t *testing.T) {
	var i ids
	i.seed(0, 1)
	seen := map[uint16]bool{}
	for range 1 << 15 {
		id := i.next(&packet.Tuple4{}, packet.UDP, packet.Offload{})
		if seen[id] {
			t.Fatalf("%d came again after %d others", id, len(seen))
		}
		seen[id] = true
	}
}
