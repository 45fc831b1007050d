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

// query is what a client sent. It refers to the packet that it was read from.
type query struct {
	id          uint16
	flags       uint16
	question    []byte // as on the wire: name, type, class
	kind, class uint16
	edns        bool
	size        uint16 // what the client takes over UDP
	do          bool
}

func (q *query) name() []byte { return q.question[:len(q.question)-4] }

// parseQuery reads a query. Of one that cannot be answered, rcode says why; what is not even a query is not ok, and must
// not be answered at all. The header of any other is valid.
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

// parseSections reads what is behind the header: the question, if it is the only one, and OPT, which must be answered even in
// a refusal (RFC 6891 section 6.1.1). Other records mean nothing here.
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
			if q.edns { // there must be one at most (RFC 6891 section 6.1.1)
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

// parseOPT reads an OPT record, of which the options do not matter (RFC 6891 section 6.1.3).
func (q *query) parseOPT(b []byte) (rcode int) {
	q.edns = true
	q.size = max(binary.BigEndian.Uint16(b[3:]), dns.MinMsgSize)
	q.do = b[7]&0x80 != 0
	if b[6] != 0 {
		return dns.RcodeBadVers
	}
	return dns.RcodeSuccess
}

// recordEnd returns where a record ends that begins at i.
func recordEnd(b []byte, i int) (end int, ok bool) {
	if i = skipName(b, i); i+10 > len(b) {
		return 0, false
	}
	end = i + 10 + int(binary.BigEndian.Uint16(b[i+8:]))
	return end, end <= len(b)
}

// skipName returns where a name ends, which may be compressed, or beyond the end of b.
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

// lower appends a name or question in small letters. Lengths of labels are below the letters.
func lower(dst, name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// equalFold says whether b, which may have capitals, is a, which has none.
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

// asked returns what the answer to a query depends on.
func (q *query) asked() (Question, error) {
	name, _, err := dns.UnpackDomainName(lower(nil, q.name()), 0)
	return Question{
		Name: name, Type: q.kind, Class: q.class, DO: q.do, CD: q.flags&flagCD != 0, RD: q.flags&flagRD != 0,
	}, err
}

var errLongAnswer = errors.New("dns64: an answer has a name or record that leads beyond its end")

// layout is where things are in a message.
type layout struct {
	ttls  []uint16 // the TTLs of its records
	needs int      // how many of them are not in the additional section
	extra int      // where that section begins
}

// layOut reads a message with one question.
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

// appendRefusal appends an answer without records: an error, or, with TC, a request to come again over TCP.
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
	count := dst[at+10 : at+12] // of additional records
	binary.BigEndian.PutUint16(count, binary.BigEndian.Uint16(count)+1)
	do := byte(0)
	if q.do {
		do = 0x80
	}
	return append(dst, 0, 0, byte(dns.TypeOPT), byte(size>>8), byte(size), byte(rcode>>4), 0, do, 0, 0, 0)
}
