package packet

import "encoding/binary"

// Segment is a TCP segment (RFC 9293 section 3.1) whose header has been validated:
//
//	0                   1                   2                   3
//	0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	|          Source Port          |       Destination Port        |
//	|                        Sequence Number                        |
//	|                    Acknowledgment Number                      |
//	| Offset| Rsrvd | Control bits  |            Window             |
//	|           Checksum            |         Urgent Pointer        |
type Segment []byte

// Seq returns the sequence number.
func (h Segment) Seq() uint32 { return binary.BigEndian.Uint32(h[4:]) }

// Ack returns the acknowledgment number; ok reports whether the ACK flag is set.
func (h Segment) Ack() (n uint32, ok bool) { return binary.BigEndian.Uint32(h[8:]), h[13]&FlagACK != 0 }

// HeaderLen returns the length of the header with its options, in bytes.
func (h Segment) HeaderLen() int { return int(h[12]>>4) * 4 }

// Window returns the Window field, unscaled.
func (h Segment) Window() uint16 { return binary.BigEndian.Uint16(h[14:]) }

// Options of a TCP header.
const (
	TCPOptionEnd   = 0
	TCPOptionNop   = 1
	TCPOptionMSS   = 2 // of 4 bytes (RFC 9293 section 3.7.1)
	TCPOptionScale = 3 // of 3 bytes (RFC 7323 section 2.2)
)

// Option returns the offset in the segment of the first option of that kind and size in bytes, or 0 if there is none.
func (h Segment) Option(kind, size uint8) int {
	end := h.HeaderLen()
	for at := TCPLen; at < end; {
		switch h[at] {
		case TCPOptionEnd:
			return 0
		case TCPOptionNop:
			at++
			continue
		}
		if at+1 >= end || h[at+1] < 2 {
			return 0
		}
		n := int(h[at+1])
		if h[at] == kind && h[at+1] == size && at+n <= end {
			return at
		}
		at += n
	}
	return 0
}
