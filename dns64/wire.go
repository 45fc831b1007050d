package dns64

import (
	"encoding/binary"
	"errors"

	"github.com/miekg/dns"
)

// The header of a message (RFC 1035 section 4.1.1): ID, flags, and the number of records of each section.
const (
	headerLen = 12
	optLen    = 11 // an OPT record without options (RFC 6891 section 6.1.2)

	flagQR = 1 << 15
	flagAA = 1 << 10
	flagTC = 1 << 9
	flagRD = 1 << 8
	flagRA = 1 << 7
	flagAD = 1 << 5
	flagCD = 1 << 4

	maxName = 255
)

// query is a parsed query. It refers to the packet.
type query struct {
	id          uint16
	flags       uint16
	question    []byte // as on the wire: name, type, class
	kind, class uint16
	edns        bool
	size        uint16 // longest answer over UDP that the client accepts
	do          bool
}

func (q *query) name() []byte { return q.question[:len(q.question)-4] }

// parseQuery parses a query. For a query that cannot be answered it returns the error in rcode. ok is false for a packet that is
// not a query and must not be answered; otherwise its header is valid.
func parseQuery(b []byte) (q query, rcode int, ok bool) {
	if len(b) < headerLen {
		return q, 0, false
	}
	q.id, q.flags = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	q.size = dns.MinMsgSize
	rcode = q.parseSections(b)
	switch {
	case q.flags&flagQR != 0:
		return q, 0, false
	case q.flags>>11&15 != dns.OpcodeQuery:
		rcode = dns.RcodeNotImplemented
	case q.question == nil || binary.BigEndian.Uint32(b[6:]) != 0: // one question, and no answers
		rcode = dns.RcodeFormatError
	}
	return q, rcode, true
}

// parseSections parses the sections after the header: the question, if there is exactly one, and OPT, which even a refusal must
// answer (RFC 6891 section 6.1.1). It ignores other records.
func (q *query) parseSections(b []byte) (rcode int) {
	i, questions := headerLen, int(binary.BigEndian.Uint16(b[4:]))
	for range questions {
		n := nameLen(b[i:])
		if n == 0 || len(b) < i+n+4 {
			return dns.RcodeFormatError
		}
		if questions == 1 {
			q.question = b[i : i+n+4]
			q.kind, q.class = binary.BigEndian.Uint16(b[i+n:]), binary.BigEndian.Uint16(b[i+n+2:])
		}
		i += n + 4
	}
	before := int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	for n := range before + int(binary.BigEndian.Uint16(b[10:])) {
		end, ok := recordEnd(b, i)
		if !ok {
			return dns.RcodeFormatError
		}
		if n >= before && b[i] == 0 && binary.BigEndian.Uint16(b[i+1:]) == dns.TypeOPT {
			if q.edns { // at most one is allowed (RFC 6891 section 6.1.1)
				return dns.RcodeFormatError
			}
			if rcode = q.parseOPT(b[i:]); rcode != dns.RcodeSuccess {
				return rcode
			}
		}
		i = end
	}
	return dns.RcodeSuccess
}

// parseOPT parses an OPT record and ignores its options (RFC 6891 section 6.1.3).
func (q *query) parseOPT(b []byte) (rcode int) {
	q.edns = true
	q.size = max(binary.BigEndian.Uint16(b[3:]), dns.MinMsgSize)
	q.do = b[7]&0x80 != 0
	if b[6] != 0 {
		return dns.RcodeBadVers
	}
	return dns.RcodeSuccess
}

// recordEnd returns the end of the record that begins at i.
func recordEnd(b []byte, i int) (end int, ok bool) {
	if i = skipName(b, i); i+10 > len(b) {
		return 0, false
	}
	end = i + 10 + int(binary.BigEndian.Uint16(b[i+8:]))
	return end, end <= len(b)
}

// skipName returns the end of a name, which may be compressed. The result may exceed the length of b.
func skipName(b []byte, i int) int {
	for i < len(b) && b[i] != 0 && b[i] < 0xc0 {
		i += int(b[i]) + 1
	}
	if i < len(b) && b[i] >= 0xc0 {
		i++
	}
	return i + 1
}

// nameLen returns the length of an uncompressed name on the wire, or 0 if there is none.
func nameLen(b []byte) int {
	for n := 0; n < len(b) && n < maxName; n += int(b[n]) + 1 {
		switch {
		case b[n] == 0:
			return n + 1
		case b[n] > 63:
			return 0
		}
	}
	return 0
}

// lower appends a name or question in lower case. Lengths of labels are smaller than letters and do not change.
func lower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// equalFold reports whether b is a regardless of case; a must be in lower case.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if a[i] != c {
			return false
		}
	}
	return true
}

// asked returns the Question of a query.
func (q *query) asked() (Question, error) {
	name, _, err := dns.UnpackDomainName(lower(nil, q.name()), 0)
	return Question{
		Name: name, Type: q.kind, Class: q.class, DO: q.do, CD: q.flags&flagCD != 0, RD: q.flags&flagRD != 0,
	}, err
}

var errLongAnswer = errors.New("dns64: an answer has a name or record that leads beyond its end")

// layout has the positions of parts of a message.
type layout struct {
	ttls  []uint16 // positions of the TTLs of its records
	needs int      // number of TTLs before the additional section
	extra int      // start of the additional section
}

// layOut returns the layout of a message with one question.
func layOut(b []byte) (l layout, err error) {
	i := headerLen + nameLen(b[headerLen:]) + 4
	l.needs = int(binary.BigEndian.Uint16(b[6:])) + int(binary.BigEndian.Uint16(b[8:]))
	for n := range l.needs + int(binary.BigEndian.Uint16(b[10:])) {
		if n == l.needs {
			l.extra = i
		}
		at := skipName(b, i) + 4
		end, ok := recordEnd(b, i)
		if !ok || at > 0xffff {
			return l, errLongAnswer
		}
		l.ttls = append(l.ttls, uint16(at))
		i = end
	}
	if len(l.ttls) == l.needs {
		l.extra = i
	}
	return l, nil
}

// appendRefusal appends an answer without records: an error, or, with TC, an answer that makes the client retry over TCP.
func (q *query) appendRefusal(dst []byte, rcode int, flags uint16, size uint16) []byte {
	flags |= flagQR | flagRA | q.flags&(flagRD|flagCD|15<<11) | uint16(rcode&15)
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, q.id)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	n := byte(0)
	if q.question != nil {
		n = 1
	}
	dst = append(dst, 0, n, 0, 0, 0, 0, 0, 0)
	dst = append(dst, q.question...)
	return q.appendOPT(dst, at, rcode, size)
}

// appendOPT completes a message at dst[at:] with an OPT record, if the query had one.
func (q *query) appendOPT(dst []byte, at, rcode int, size uint16) []byte {
	if !q.edns {
		return dst
	}
	count := dst[at+10 : at+12] // number of additional records
	binary.BigEndian.PutUint16(count, binary.BigEndian.Uint16(count)+1)
	do := byte(0)
	if q.do {
		do = 0x80
	}
	return append(dst, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), byte(rcode>>4), 0, do, 0, 0, 0)
}
