package xlat

import (
	"encoding/binary"

	"nat64d/packet"
)

// TCP options (RFC 9293 section 3.2).
const (
	optionEnd  = 0
	optionNop  = 1
	optionMSS  = 2
	mssOptions = 4 // its length
)

// ClampMSS lowers the MSS option of the TCP SYN in o, a translation of v, to at most mss bytes, checksum included. An
// option that is lower, or that is not there, stays as it is.
func ClampMSS(o *packet.Out, v *packet.View, mss int) {
	h := transport(o, v)
	at := findMSS(h[packet.TCPLen:])
	if at < 0 {
		return
	}
	field := h[packet.TCPLen+at+2:]
	old := binary.BigEndian.Uint16(field)
	if int(old) <= mss {
		return
	}
	binary.BigEndian.PutUint16(field, uint16(mss))
	if o.Offload.Checksum == packet.ChecksumPartial {
		return // whoever completes the checksum reads the option as it is now
	}
	delta := packet.Sum(0).Less(old).Word(uint16(mss))
	if at%2 == 1 { // the value straddles two words: its bytes are swapped in the sum (RFC 1071 section 2)
		delta = packet.Sum(0).Less(old<<8 | old>>8).Word(uint16(mss)<<8 | uint16(mss)>>8)
	}
	c := h[packet.TCPChecksum:]
	binary.BigEndian.PutUint16(c, delta.Adjust(binary.BigEndian.Uint16(c)))
}

// findMSS returns where in the options of a TCP header the MSS option begins, or -1.
func findMSS(options []byte) int {
	for at := 0; at < len(options); {
		switch options[at] {
		case optionEnd:
			return -1
		case optionNop:
			at++
			continue
		}
		if at+1 >= len(options) || options[at+1] < 2 {
			return -1
		}
		size := int(options[at+1])
		if options[at] == optionMSS && size == mssOptions && at+size <= len(options) {
			return at
		}
		at += size
	}
	return -1
}
