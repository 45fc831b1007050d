package icmp

// minOriginal is the least that a message with extensions quotes, zero padded (RFC 4884 section 4).
const minOriginal = 128

// Split divides what follows the 8-byte header of an ICMP error into the quoted packet and the extensions (RFC 4884
// section 4). words is the length field and unit the bytes it counts in: 4 for ICMP, 8 for ICMPv6. A length that does
// not fit means that there are no extensions.
func Split(body []byte, words uint8, unit int) (original, extensions []byte) {
	n := int(words) * unit
	if n < minOriginal || n >= len(body) {
		return body, nil
	}
	return body[:n], body[n:]
}

// Fit says how a message of at most room bytes behind its header is laid out when it quotes n bytes and carries ext
// bytes of extensions: quote bytes of the quoted packet, then padding, then the extensions if extended. The quoted packet
// is shortened first, but not below 128 bytes, then the extensions go (RFC 7915 sections 4.2 and 5.2).
func Fit(n, ext, room, unit int) (quote, padding int, extended bool) {
	if ext == 0 || ext > room-minOriginal {
		return min(n, room), 0, false
	}
	size := max(minOriginal, (n+unit-1)/unit*unit)
	if most := (room - ext) / unit * unit; size > most {
		size = most
	}
	quote = min(n, size)
	return quote, size - quote, true
}
