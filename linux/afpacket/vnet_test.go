//go:build linux

package afpacket

import (
	"encoding/binary"
	"testing"

	"nat64d/packet"
)

// header returns a virtio_net_hdr.
func header(flags, gso uint8, hdrLen, gsoSize, csumStart, csumOffset uint16) []byte {
	b := []byte{flags, gso}
	for _, v := range []uint16{hdrLen, gsoSize, csumStart, csumOffset} {
		b = binary.NativeEndian.AppendUint16(b, v)
	}
	return b
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		hdr    []byte
		length int
		want   packet.Offload
		ok     bool
	}{
		{"wire packet", header(0, 0, 0, 0, 0, 0), 60, packet.Offload{}, true},
		{"verified", header(2, 0, 0, 0, 0, 0), 60, packet.Offload{Checksum: packet.ChecksumGood}, true},
		{"partial", header(1, 0, 0, 0, 54, 6), 100,
			packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 6}, true},
		{"partial beats verified", header(3, 0, 0, 0, 34, 16), 100,
			packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 20, CsumOffset: 16}, true},
		{"unknown flag", header(4, 0, 0, 0, 0, 0), 60, packet.Offload{}, true},
		{"checksum field at the end", header(1, 0, 0, 0, 54, 6), 62,
			packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 6}, true},
		{"checksum field beyond the end", header(1, 0, 0, 0, 54, 6), 61, packet.Offload{}, false},
		{"checksum from the Ethernet header", header(1, 0, 0, 0, 13, 6), 100, packet.Offload{}, false},
		{"tcp over IPv4", header(0, 1, 54, 1460, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOTCPv4, HdrLen: 40, GSOSize: 1460}, true},
		{"tcp over IPv6", header(0, 4, 74, 1440, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOTCPv6, HdrLen: 60, GSOSize: 1440}, true},
		{"tcp with CWR", header(0, 0x84, 74, 1440, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOTCPv6, ECN: true, HdrLen: 60, GSOSize: 1440}, true},
		{"udp", header(0, 5, 62, 1200, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOUDPL4, HdrLen: 48, GSOSize: 1200}, true},
		{"udp with CWR", header(0, 0x85, 62, 1200, 0, 0), 3000, packet.Offload{}, false},
		{"CWR alone", header(0, 0x80, 0, 0, 0, 0), 60, packet.Offload{}, false},
		{"udp fragments", header(0, 3, 62, 1200, 0, 0), 3000, packet.Offload{}, false},
		{"unknown kind", header(0, 6, 62, 1200, 0, 0), 3000, packet.Offload{}, false},
		{"segments of nothing", header(0, 1, 54, 0, 0, 0), 3000, packet.Offload{}, false},
		{"header length beyond the end", header(0, 1, 60000, 1460, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOTCPv4, HdrLen: 2986, GSOSize: 1460}, true},
		{"header length within Ethernet", header(0, 1, 3, 1460, 0, 0), 3000,
			packet.Offload{GSO: packet.GSOTCPv4, GSOSize: 1460}, true},
	} {
		got, ok := decode(c.hdr, packet.EthLen, c.length)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, ok, c.want, c.ok)
		}
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		o    packet.Offload
		head int
		want []byte
	}{
		{"wire packet", packet.Offload{CsumStart: 40, CsumOffset: 6, HdrLen: 60, GSOSize: 9}, 74, header(0, 0, 0, 0, 0, 0)},
		{"verified is not passed on", packet.Offload{Checksum: packet.ChecksumGood}, 74, header(0, 0, 0, 0, 0, 0)},
		{"partial", packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 20, CsumOffset: 16}, 54,
			header(1, 0, 0, 0, 34, 16)},
		{"super-packet", packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 16,
			GSO: packet.GSOTCPv6, ECN: true, GSOSize: 1440, HdrLen: 60}, 74, header(1, 0x84, 74, 1440, 54, 16)},
		{"header length beyond the header", packet.Offload{GSO: packet.GSOUDPL4, GSOSize: 1200, HdrLen: 9000}, 62,
			header(0, 5, 62, 1200, 0, 0)},
	} {
		got := []byte("0123456789")
		encode(got, &c.o, c.head)
		if string(got) != string(c.want) {
			t.Errorf("%s: %x, want %x", c.name, got, c.want)
		}
	}
}

// FuzzVnet checks that decoded metadata lie within the frame and survive encoding and decoding.
func FuzzVnet(f *testing.F) {
	f.Add(header(0, 0, 0, 0, 0, 0), uint32(60))
	f.Add(header(1, 0x84, 74, 1440, 54, 16), uint32(60000))
	f.Add(header(2, 5, 62, 1200, 0, 0), uint32(3000))
	f.Add(header(255, 255, 65535, 65535, 65535, 65535), uint32(65599))
	f.Fuzz(func(t *testing.T, hdr []byte, size uint32) {
		if len(hdr) < packet.VnetLen {
			return
		}
		frame := make([]byte, size%bufferLen)
		var p packet.Frame
		if !unwrap(&p, hdr[:packet.VnetLen], frame) {
			return
		}
		o := p.Offload
		if len(p.Data) != len(frame)-packet.EthLen || int(o.HdrLen) > len(p.Data) {
			t.Fatalf("frame of %d bytes: %d of data, %+v", len(frame), len(p.Data), o)
		}
		if o.Checksum == packet.ChecksumPartial && int(o.CsumStart)+int(o.CsumOffset)+2 > len(p.Data) {
			t.Fatalf("frame of %d bytes: %+v", len(frame), o)
		}
		var again [packet.VnetLen]byte
		encode(again[:], &o, len(frame))
		back, ok := decode(again[:], packet.EthLen, len(frame))
		if o.Checksum == packet.ChecksumGood {
			o.Checksum = packet.ChecksumUnknown
		}
		if !ok || back != o {
			t.Fatalf("%+v became %+v, %v", o, back, ok)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	hdr := header(1, 4, 74, 1440, 54, 16)
	for b.Loop() {
		if _, ok := decode(hdr, packet.EthLen, 60000); !ok {
			b.Fatal("refused")
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	var hdr [packet.VnetLen]byte
	o := packet.Offload{Checksum: packet.ChecksumPartial, CsumStart: 40, CsumOffset: 16,
		GSO: packet.GSOTCPv6, GSOSize: 1440, HdrLen: 60}
	for b.Loop() {
		encode(hdr[:], &o, 74)
	}
}
