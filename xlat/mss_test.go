package xlat_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/xlat"
)

// syn returns a TCP SYN over IPv6 with the given options, padded to a multiple of 4.
func syn(options []byte) []byte {
	for len(options)%4 != 0 {
		options = append(options, 1)
	}
	h := make([]byte, packet.TCPLen, packet.TCPLen+len(options))
	binary.BigEndian.PutUint16(h, 40000)
	binary.BigEndian.PutUint16(h[2:], 443)
	h[12], h[13] = byte((packet.TCPLen+len(options))/4)<<4, packet.FlagSYN
	h = append(h, options...)
	c := packet.Sum(0).Addr6(&client).Addr6(&server6).Pseudo(len(h), packet.NumTCP).Bytes(h).Checksum()
	binary.BigEndian.PutUint16(h[packet.TCPChecksum:], c)
	return ip6(packet.NumTCP, h)
}

// clamped translates a SYN, clamps its MSS and returns its options.
func clamped(t testing.TB, options []byte, mss int) []byte {
	var v packet.View
	in := syn(options)
	if v.Parse6(in) != drop.None || v.Extensions6() != drop.None || v.Transport6() != drop.None {
		t.Fatal("the SYN does not parse")
	}
	o := out()
	tuple := packet.Tuple4{Src: packet.Endpoint4{Addr: mapped, Port: 7000}, Dst: packet.Endpoint4{Addr: server, Port: 443}}
	if r := conf.To4(o, &v, packet.Offload{}, &tuple, 1); r != drop.None {
		t.Fatal(r)
	}
	xlat.ClampMSS(o, &v, mss)
	verify(t, join(o))
	return join(o)[packet.IPv4Len+packet.TCPLen:]
}

func TestClampMSS(t *testing.T) {
	for name, row := range map[string]struct{ in, want []byte }{
		"lowered":              {[]byte{2, 4, 0x05, 0xb4}, []byte{2, 4, 0x04, 0xb0}},
		"low enough":           {[]byte{2, 4, 0x02, 0x18}, []byte{2, 4, 0x02, 0x18}},
		"across two words":     {[]byte{1, 2, 4, 0x05, 0xb4}, []byte{1, 2, 4, 0x04, 0xb0, 1, 1, 1}},
		"behind other options": {[]byte{4, 2, 3, 3, 7, 2, 4, 0xff, 0xff}, []byte{4, 2, 3, 3, 7, 2, 4, 0x04, 0xb0, 1, 1, 1}},
		"none":                 {[]byte{4, 2}, []byte{4, 2, 1, 1}},
		"behind the end":       {[]byte{0, 2, 4, 0xff, 0xff}, []byte{0, 2, 4, 0xff, 0xff, 1, 1, 1}},
		"of a wrong length":    {[]byte{2, 3, 0xff, 1}, []byte{2, 3, 0xff, 1}},
		"cut off":              {[]byte{1, 1, 2, 4}, []byte{1, 1, 2, 4}},
		"without a length":     {[]byte{1, 1, 1, 2}, []byte{1, 1, 1, 2}},
	} {
		if got := clamped(t, row.in, 1200); !bytes.Equal(got, row.want) {
			t.Errorf("%s: %x became %x, want %x", name, row.in, got, row.want)
		}
	}
}

func FuzzClampMSS(f *testing.F) {
	f.Add([]byte{2, 4, 5, 0xb4})
	f.Add([]byte{1, 2, 4, 5, 0xb4, 0})
	f.Fuzz(func(t *testing.T, options []byte) {
		if len(options) <= 40 {
			clamped(t, bytes.Clone(options), 1000) // clamped verifies the checksum
		}
	})
}
