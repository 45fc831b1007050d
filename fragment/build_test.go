package fragment_test

import (
	"encoding/binary"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

var (
	client6 = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 0, 1, 15: 0x10}
	server6 = packet.Addr6{0x20, 0x01, 0x0d, 0xb8, 0, 0x64, 12: 198, 51, 100, 20}
	client4 = packet.Addr4{203, 0, 113, 1}
	server4 = packet.Addr4{198, 51, 100, 20}
)

// frag describes one fragment.
type frag struct {
	v6     bool
	source uint8 // last byte of the source address
	id     uint32
	next   uint8
	ext    []byte // IPv6 extension headers before the Fragment header, or IPv4 options
	offset int
	data   []byte
	more   bool
	df     bool
	ecn    uint8
}

func (f frag) build() []byte {
	if f.v6 {
		return f.build6()
	}
	return f.build4()
}

func (f frag) build6() []byte {
	src := client6
	src[15] = f.source
	b := make([]byte, packet.IPv6Len)
	next := uint8(packet.NumFragment)
	if len(f.ext) > 0 {
		next = packet.NumDestOpts // ext has the number of the next header
	}
	packet.IPv6(b).Put(f.ecn, len(f.ext)+packet.FragLen+len(f.data), next, 64, &src, &server6)
	b = append(b, f.ext...)
	word := uint16(f.offset)
	if f.more {
		word |= 1
	}
	b = append(b, f.next, 0)
	b = binary.BigEndian.AppendUint16(b, word)
	b = binary.BigEndian.AppendUint32(b, f.id)
	return append(b, f.data...)
}

func (f frag) build4() []byte {
	src := server4
	src[3] = f.source
	b := make([]byte, packet.IPv4Len)
	packet.IPv4(b).Put(packet.Fields4{TOS: f.ecn, TTL: 64, Proto: f.next, DF: f.df, MF: f.more, ID: uint16(f.id)},
		packet.IPv4Len+len(f.ext)+len(f.data), &src, &client4)
	b[0] += uint8(len(f.ext) / 4)
	b = append(b, f.ext...)
	binary.BigEndian.PutUint16(b[6:], binary.BigEndian.Uint16(b[6:])|uint16(f.offset/8))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], packet.Sum(0).Bytes(b).Checksum())
	return append(b, f.data...)
}

// parse parses an IP packet as Add expects it.
func parse(b []byte) (v packet.View, r drop.Reason) {
	if len(b) > 0 && b[0]>>4 == 4 {
		return v, v.Parse4(b)
	}
	if r := v.Parse6(b); r != drop.None {
		return v, r
	}
	return v, v.Extensions6()
}

// add adds the packet b, which must be well-formed, to r.
func add(t rapid.TB, r *fragment.Reassembler, b []byte, now time.Duration) (fragment.Whole, drop.Reason) {
	t.Helper()
	v, bad := parse(b)
	if bad != drop.None {
		t.Fatalf("the test's own fragment %x is refused: %v", b, bad)
	}
	if v.IP6()[0]>>4 == 4 {
		return r.Add4(&v, now)
	}
	return r.Add6(&v, now)
}

// payload returns n bytes, each different from its neighbours, that begin with variant.
func payload(n, variant int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + variant)
	}
	return b
}

// cut divides a datagram into fragments of step bytes.
func (f frag) cut(step int) []frag {
	var fs []frag
	for at := 0; at < len(f.data); at += step {
		g := f
		g.offset, g.data = at, f.data[at:min(at+step, len(f.data))]
		g.more = at+step < len(f.data)
		fs = append(fs, g)
	}
	return fs
}

// options6 returns a Destination Options header of n bytes that is followed by next.
func options6(next uint8, n int) []byte {
	b := make([]byte, n)
	b[0], b[1] = next, uint8(n/8-1)
	return b
}
