//go:build linux

package afpacket

import (
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

func TestInboxRefusesTruncatedPackets(t *testing.T) {
	t.Parallel()
	b, err := newInbox(2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	var lost packet.Drops
	for _, c := range []struct {
		name   string
		length uint32
		flags  int32
		want   bool
	}{
		{"whole", packet.Headroom + 40, 0, true},
		{"as large as can be", bufferLen, 0, true},
		{"larger", bufferLen, unix.MSG_TRUNC, false},
		{"shorter than an Ethernet header", packet.Headroom - 1, 0, false},
	} {
		m := &b.messages[1]
		m.length, m.hdr.Flags = c.length, c.flags
		var f packet.Frame
		got := b.frame(1, &f, &lost)
		if got != c.want || got && len(f.Data) != int(c.length)-packet.Headroom {
			t.Errorf("%s: %v with %d bytes, want %v", c.name, got, len(f.Data), c.want)
		}
	}
	if want := (packet.Drops{Large: 1, Offload: 1}); lost != want {
		t.Errorf("lost: %+v, want %+v", lost, want)
	}
}
