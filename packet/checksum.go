package packet

import (
	"encoding/binary"
	"math/bits"
)

// Sum is a running one's-complement sum (RFC 1071) over 16-bit big-endian words, accumulated in 64 bits and folded at
// the end. It folds to zero only if every word was zero; this distinguishes the two zeros of one's complement, as RFC
// 1624 requires.
type Sum uint64

func (s Sum) add(v uint64) Sum {
	sum, carry := bits.Add64(uint64(s), v, 0)
	return Sum(sum + carry)
}

// Bytes adds b, which must begin at an even offset of the summed data; an odd last byte is padded with zero.
func (s Sum) Bytes(b []byte) Sum {
	for len(b) >= 64 { // add 8 words per iteration: one chain of add-with-carry, a word per cycle
		sum, c := bits.Add64(uint64(s), binary.BigEndian.Uint64(b), 0)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[8:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[16:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[24:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[32:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[40:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[48:]), c)
		sum, c = bits.Add64(sum, binary.BigEndian.Uint64(b[56:]), c)
		s, b = Sum(sum).add(c), b[64:]
	}
	for len(b) >= 8 {
		s = s.add(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	for len(b) >= 2 {
		s = s.add(uint64(binary.BigEndian.Uint16(b)))
		b = b[2:]
	}
	if len(b) == 1 {
		s = s.add(uint64(b[0]) << 8)
	}
	return s
}

// Word adds one 16-bit word.
func (s Sum) Word(w uint16) Sum { return s.add(uint64(w)) }

// Less adds the complement of w, which removes the word from the sum (RFC 1624 equation 3).
func (s Sum) Less(w uint16) Sum { return s.add(uint64(^w)) }

// Addr4 adds an IPv4 address.
func (s Sum) Addr4(a *Addr4) Sum { return s.add(uint64(binary.BigEndian.Uint32(a[:]))) }

// LessAddr4 removes an IPv4 address.
func (s Sum) LessAddr4(a *Addr4) Sum { return s.add(uint64(^binary.BigEndian.Uint32(a[:]))) }

// Addr6 adds an IPv6 address.
func (s Sum) Addr6(a *Addr6) Sum {
	return s.add(binary.BigEndian.Uint64(a[:8])).add(binary.BigEndian.Uint64(a[8:]))
}

// LessAddr6 removes an IPv6 address.
func (s Sum) LessAddr6(a *Addr6) Sum {
	return s.add(^binary.BigEndian.Uint64(a[:8])).add(^binary.BigEndian.Uint64(a[8:]))
}

// Pseudo adds the part of a pseudo-header that follows the addresses (RFC 8200 section 8.1, RFC 9293 section 3.1):
// the transport length in bytes and the protocol.
func (s Sum) Pseudo(length int, proto uint8) Sum { return s.add(uint64(length)).add(uint64(proto)) }

// PseudoHeader returns the sum of the pseudo-header of n bytes of transport that follow the IP header ip, whose protocol is that of
// the transport.
func PseudoHeader(ip []byte, n int) Sum {
	if ip[0]>>4 == 4 {
		h := IPv4(ip)
		return Sum(0).Addr4(h.Src()).Addr4(h.Dst()).Pseudo(n, h.Protocol())
	}
	h := IPv6(ip)
	return Sum(0).Addr6(h.Src()).Addr6(h.Dst()).Pseudo(n, h.NextHeader())
}

// Add adds another sum.
func (s Sum) Add(t Sum) Sum { return s.add(uint64(t)) }

// Fold returns the 16-bit one's-complement sum.
func (s Sum) Fold() uint16 {
	v := uint64(s)
	v = v>>32 + v&0xffffffff
	v = v>>16 + v&0xffff
	v = v>>16 + v&0xffff
	v = v>>16 + v&0xffff
	return uint16(v)
}

// Checksum returns the checksum: the complement of the sum.
func (s Sum) Checksum() uint16 { return ^s.Fold() }

// Adjust applies s, a sum of removed and added words, to the checksum c of a packet: C' = ~(~C + ~m + m') of RFC 1624
// section 3. If c was wrong, the result is wrong by the same difference.
func (s Sum) Adjust(c uint16) uint16 { return s.Word(^c).Checksum() }

// AdjustPartial applies s to the pseudo-header sum in the checksum field of a packet with ChecksumPartial. That sum
// is not complemented.
func (s Sum) AdjustPartial(c uint16) uint16 { return s.Word(c).Fold() }
