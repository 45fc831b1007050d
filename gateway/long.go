package gateway

import (
	"encoding/binary"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
)

// maxPacket is the maximum length of a packet that is translated whole, the limit of IPv4.
const maxPacket = 0xffff

// maxHeaders is the maximum length of the headers of a super-packet that is split: IPv4 with options, or IPv6, and
// TCP with options.
const maxHeaders = 60 + 60

// long is a TCP super-packet of more than 64 KiB ("BIG TCP"), which kernels build if gso_max_size or gro_max_size
// allow it. Its length does not fit the IP header: in IPv4 the Total Length is 0; in IPv6 the Payload Length is 0,
// and a Jumbo Payload option (RFC 2675) may follow the header. Its segments are ordinary packets.
type long struct {
	data    []byte // from the IP header to the end of the payload
	head    [maxHeaders]byte
	ip      int // length of the IP header
	tcp     int // and of the TCP header
	payload int // offset of the payload
	offload packet.Offload
}

// takeLong processes a packet of more than 64 KiB if it is for the gateway: it splits a TCP super-packet into smaller
// ones. It returns false for a packet that has a length, which the caller processes.
func (w *worker) takeLong(f *packet.Frame) bool {
	if packetLen(f.Data) != 0 {
		return false
	}
	var l long
	r := w.ourLong(f.Data)
	if r == drop.None {
		r = l.read(f)
	}
	if r == drop.None {
		r = w.takeParts(&l)
	}
	if r != drop.None {
		w.count.Dropped(r, 1)
		if !r.Host() {
			w.lost(r, 1)
		}
	}
	return true
}

// packetLen returns the length of an IP packet from its header. It returns 0 for a packet whose length does not fit
// the header, or that IPv4 has no room for.
func packetLen(data []byte) int {
	if data[0]>>4 == 4 {
		return packet.IPv4(data).TotalLen()
	}
	n := packet.IPv6(data).PayloadLen()
	if n == 0 || packet.IPv6(data).NextHeader() == packet.NumTCP && n > maxPacket-packet.IPv4Len {
		return 0
	}
	return n + packet.IPv6Len
}

// ourLong reports whether a packet is for the gateway, by its destination only.
func (w *worker) ourLong(data []byte) drop.Reason {
	if data[0]>>4 == 4 {
		if !w.pooled(*packet.IPv4(data).Dst()) {
			return drop.NotPool4
		}
		return drop.None
	}
	if _, ok := pool6.Match(w.conf.prefixes, packet.IPv6(data).Dst()); !ok {
		return drop.NotPool6
	}
	return drop.None
}

// read checks that the frame can be split, and stores its headers without the marks of its length.
func (l *long) read(f *packet.Frame) drop.Reason {
	if f.Offload.GSO != packet.GSOTCPv4 && f.Offload.GSO != packet.GSOTCPv6 {
		return drop.Large
	}
	l.data, l.offload = f.Data, f.Offload
	read := l.read6
	if f.Data[0]>>4 == 4 {
		read = l.read4
	}
	at, r := read()
	switch {
	case r != drop.None:
		return r
	case len(l.data)-at < packet.TCPLen:
		return drop.TCPHeader
	}
	l.tcp = int(l.data[at+12]>>4) * 4
	if l.tcp < packet.TCPLen || l.tcp > len(l.data)-at {
		return drop.TCPHeader
	}
	l.payload = at + l.tcp
	// An unverified checksum may not be that of the whole; the kernel leaves that of every
	// super-packet half done.
	partial := f.Offload.Checksum == packet.ChecksumPartial && int(f.Offload.CsumStart) == at && f.Offload.CsumOffset == packet.TCPChecksum
	if !partial && f.Offload.Checksum != packet.ChecksumGood || l.partLen() <= 0 {
		return drop.Offload
	}
	copy(l.head[:], l.data[:l.ip])
	copy(l.head[l.ip:], l.data[at:l.payload])
	return drop.None
}

// read4 and read6 read the IP header, remove link padding, and return the offset of the TCP header.
func (l *long) read4() (at int, r drop.Reason) {
	h := packet.IPv4(l.data)
	l.ip = h.HeaderLen()
	switch {
	case l.ip < packet.IPv4Len:
		return 0, drop.Header4
	case packet.Sum(0).Bytes(l.data[:l.ip]).Fold() != 0xffff:
		return 0, drop.HeaderChecksum4
	case h.Protocol() != packet.NumTCP || binary.BigEndian.Uint16(h[6:])&0x3fff != 0: // or a fragment
		return 0, drop.Offload
	}
	return l.ip, drop.None
}

func (l *long) read6() (at int, r drop.Reason) {
	h := packet.IPv6(l.data)
	l.ip, at = packet.IPv6Len, packet.IPv6Len
	next, n := h.NextHeader(), h.PayloadLen()
	if next == packet.NumHopByHop {
		option := l.data[at:]
		const jumbo, room = 0xc2, 4
		if option[1] != 0 || option[2] != jumbo || option[3] != room {
			return 0, drop.Large
		}
		next, n = option[0], int(binary.BigEndian.Uint32(option[4:]))
		at += 8
	}
	switch end := packet.IPv6Len + n; {
	case next != packet.NumTCP:
		return 0, drop.Large
	case end > len(l.data) || n != 0 && end < at:
		return 0, drop.Truncated
	case n != 0:
		l.data = l.data[:end]
	}
	return at, drop.None
}

// partLen returns the payload length of a part: a multiple of the segment size.
func (l *long) partLen() int {
	size := max(int(l.offload.GSOSize), 1)
	return (maxPacket - packet.IPv6Len - l.tcp) / size * size
}

// takeParts processes the parts and counts the result of each. A part's headers are written just before its payload,
// over the end of the previous part, which has been sent or copied by then. It returns a reason that applies to the
// whole packet if the packet is for the host.
func (w *worker) takeParts(l *long) drop.Reason {
	step, size := l.partLen(), len(l.data)-l.payload
	for from := 0; from < size || from == 0; from += step {
		if from > 0 {
			w.out.Flush()
			w.count.ArrivedMore(1)
		}
		part := l.part(from, min(from+step, size))
		p := newInflight(part)
		r := w.take(&p)
		if r.Host() {
			return r
		}
		w.settle(&p, r)
	}
	return drop.None
}

// part returns the part with the payload bytes in the given range. It has its own lengths, Identification, sequence
// number, flags and checksums, as if the kernel had segmented the super-packet.
func (l *long) part(from, to int) packet.Frame {
	begin := l.payload + from - l.ip - l.tcp
	b := l.data[begin : l.payload+to : l.payload+to]
	copy(b, l.head[:l.ip+l.tcp])
	f := packet.Frame{Data: b, Offload: l.offload}
	size := max(int(l.offload.GSOSize), 1)
	tcp := b[l.ip:]
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(from))
	if from > 0 {
		tcp[13] &^= packet.FlagCWR
		f.Offload.ECN = false
	}
	if l.payload+to < len(l.data) {
		tcp[13] &^= packet.FlagFIN | packet.FlagPSH
	}
	if b[0]>>4 == 4 {
		h := packet.IPv4(b)
		binary.BigEndian.PutUint16(h[2:], uint16(len(b)))
		binary.BigEndian.PutUint16(h[4:], h.ID()+uint16(from/size))
		h[10], h[11] = 0, 0
		binary.BigEndian.PutUint16(h[10:], packet.Sum(0).Bytes(h[:l.ip]).Checksum())
	} else {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-packet.IPv6Len))
		b[6] = packet.NumTCP
	}
	binary.BigEndian.PutUint16(tcp[packet.TCPChecksum:], packet.PseudoHeader(b, len(tcp)).Fold())
	f.Offload.Checksum, f.Offload.CsumStart, f.Offload.CsumOffset = packet.ChecksumPartial, uint16(l.ip), packet.TCPChecksum
	f.Offload.HdrLen = uint16(l.ip + l.tcp)
	if to-from <= size {
		f.Offload.GSO, f.Offload.ECN, f.Offload.GSOSize, f.Offload.HdrLen = packet.GSONone, false, 0, 0
	}
	return f
}
