package packet_test

import (
	"testing"

	"nat64d/packet"
)

// segment returns a TCP header with options, padded to a multiple of four bytes by end-of-list options.
func segment(flags byte, options ...byte) packet.Segment {
	n := (len(options) + 3) &^ 3
	h := make(packet.Segment, packet.TCPLen+n)
	h[11], h[12], h[13] = 7, byte(len(h)/4<<4), flags // acknowledgment number 7
	copy(h[packet.TCPLen:], options)
	return h
}

func TestAckReportsFlag(t *testing.T) {
	t.Parallel()
	if n, ok := segment(packet.FlagACK).Ack(); n != 7 || !ok {
		t.Errorf("with the ACK flag: %d, %v", n, ok)
	}
	if _, ok := segment(packet.FlagSYN).Ack(); ok {
		t.Error("an acknowledgment without the ACK flag")
	}
}

func TestOptionSkipsOthersAndStopsAtMalformed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options []byte
		want    int
	}{
		"first":                   {[]byte{3, 3, 7}, 20},
		"after others":            {[]byte{1, 2, 4, 5, 180, 3, 3, 7}, 25},
		"of another size":         {[]byte{3, 4, 7, 7}, 0},
		"after the end of list":   {[]byte{0, 3, 3, 7}, 0},
		"longer than the header":  {[]byte{1, 1, 3, 3}, 0},
		"without a length":        {[]byte{1, 1, 1, 3}, 0},
		"after an option of 0":    {[]byte{8, 0, 3, 3, 7}, 0},
		"after an option of 1":    {[]byte{8, 1, 3, 3, 7}, 0},
		"after one that is large": {[]byte{8, 40, 3, 3, 7}, 0},
	} {
		if got := segment(packet.FlagSYN, c.options...).Option(3, 3); got != c.want {
			t.Errorf("%s: at %d, want %d", name, got, c.want)
		}
	}
}

func TestSourceRoutedReadsOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options []byte
		want    bool
	}{
		"loose":                      {[]byte{131, 7, 4, 192, 0, 2, 1, 0}, true},
		"strict, after a no-op":      {[]byte{1, 137, 7, 4, 192, 0, 2, 1}, true},
		"expired":                    {[]byte{131, 7, 8, 192, 0, 2, 1, 0}, false},
		"after the end of list":      {[]byte{0, 131, 3, 3}, false},
		"record route":               {[]byte{7, 7, 4, 192, 0, 2, 1, 0}, false},
		"without a length":           {[]byte{1, 1, 1, 131}, false},
		"after an option of 0":       {[]byte{7, 0, 131, 3, 3, 0, 0, 0}, false},
		"after an option of 1":       {[]byte{7, 1, 131, 3, 3, 0, 0, 0}, false},
		"longer than the header":     {[]byte{131, 40, 4, 0}, false},
		"after one that is too long": {[]byte{7, 40, 131, 3}, false},
	} {
		v := packet.View{Data: append(make([]byte, packet.IPv4Len), c.options...), L4: packet.IPv4Len + len(c.options)}
		if got := v.SourceRouted(); got != c.want {
			t.Errorf("%s: source-routed %v, want %v", name, got, c.want)
		}
	}
}
