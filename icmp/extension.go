package icmp

// minOriginal is the minimum length of the quoted packet in a message with extensions, zero padded (RFC 4884 section
// 4).
const minOriginal = 128

// Split divides the body after the 8-byte header of an ICMP error into the quoted packet and the extensions (RFC 4884
// section 4). words is the length field and unit its unit in bytes: 4 for ICMP, 8 for ICMPv6. If the length is out of
// range, the message has no extensions.
func Split(body []byte, words uint8, unit int) (original, extensions []byte) {
	n := int(words) * unit
	if n < minOriginal || n >= len(body) {
		return body, nil
	}
	return body[:n], body[n:]
}

// Fit computes the layout of a message with room bytes after its header, which quotes n bytes and carries ext bytes
// of extensions: quote bytes of the quoted packet, then padding bytes, then the extensions if extended is true. Fit
// truncates the quoted packet to 128 bytes at least; if that is not enough, it omits the extensions (RFC 7915
// sections 4.2 and 5.2).
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
