package gateway

import (
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// The check of sequence numbers gets the window scale of a SYN, at any position of the option, and none from other
// segments.
func TestSegmentHasWindowScaleOfSYN(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		flags   byte
		options []byte
		want    uint8
	}{
		{"SYN", packet.FlagSYN, []byte{3, 3, 7, 0}, 7},
		{"SYN, option behind others", packet.FlagSYN, []byte{2, 4, 5, 0xb4, 1, 3, 3, 9}, 9},
		{"SYN and ACK", packet.FlagSYN | packet.FlagACK, []byte{1, 3, 3, 14}, 14},
		{"SYN without the option", packet.FlagSYN, []byte{2, 4, 5, 0xb4}, 0},
		{"SYN, option of another length", packet.FlagSYN, []byte{3, 4, 7, 7}, 0},
		{"ACK", packet.FlagACK, []byte{3, 3, 7, 0}, 0},
	} {
		b := make([]byte, packet.IPv4Len+packet.TCPLen+len(c.options))
		packet.IPv4(b).Put(packet.Fields4{TTL: 64, Proto: packet.NumTCP}, len(b), &packet.Addr4{192, 0, 2, 1}, &packet.Addr4{198, 51, 100, 20})
		h := b[packet.IPv4Len:]
		h[12], h[13] = byte(packet.TCPLen+len(c.options))/4<<4, c.flags
		copy(h[packet.TCPLen:], c.options)
		var v packet.View
		if v.Parse4(b) != drop.None || v.Transport4() != drop.None {
			t.Fatalf("%s: not a segment", c.name)
		}
		if s := segment(&v); s.Scale != c.want {
			t.Errorf("%s: scale %d, want %d", c.name, s.Scale, c.want)
		}
	}
}
