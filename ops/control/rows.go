package control

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// row is an entry of a listing that appends its JSON, without memory of its own: encoding/json takes ten times as long, which counts
// with millions of entries.
type row interface{ appendJSON(b []byte) []byte }

// MarshalJSON implements json.Marshaler.
func (b Binding) MarshalJSON() ([]byte, error) { return b.appendJSON(nil), nil }

func (b *Binding) appendJSON(to []byte) []byte {
	to = appendText(append(to, '{'), "protocol", b.Protocol)
	to = appendEndpoint(to, "client", b.Client)
	to = appendEndpoint(to, "mapped", b.Mapped)
	to = strconv.AppendBool(append(to, `,"static":`...), b.Static)
	to = strconv.AppendInt(append(to, `,"sessions":`...), int64(b.Sessions), 10)
	return append(to, '}')
}

// MarshalJSON implements json.Marshaler.
func (s Session) MarshalJSON() ([]byte, error) { return s.appendJSON(nil), nil }

func (s *Session) appendJSON(to []byte) []byte {
	to = appendText(append(to, '{'), "protocol", s.Protocol)
	if s.Client.IsValid() {
		to = appendEndpoint(to, "client", s.Client)
	}
	to = appendEndpoint(to, "mapped", s.Mapped)
	to = appendEndpoint(to, "peer", s.Peer)
	to = appendEndpoint(to, "peer6", s.Peer6)
	if s.State != "" {
		to = appendText(append(to, ','), "state", s.State)
	}
	to = appendSeconds(to, "expires_seconds", s.Expires)
	to = appendSeconds(to, "idle_seconds", s.Idle)
	return append(to, '}')
}

func appendName(to []byte, name string) []byte {
	to = append(to, '"')
	to = append(to, name...)
	return append(to, '"', ':')
}

func appendText(to []byte, name, text string) []byte {
	to = appendName(to, name)
	if strings.ContainsFunc(text, escaped) {
		quoted, _ := json.Marshal(text) // a string has a form in JSON
		return append(to, quoted...)
	}
	return append(append(append(to, '"'), text...), '"')
}

// escaped reports whether JSON may escape a character.
func escaped(r rune) bool { return r < ' ' || r > '~' || strings.ContainsRune(`"\<>&`, r) }

// appendEndpoint appends an address and a port, each behind a comma.
func appendEndpoint(to []byte, name string, e netip.AddrPort) []byte {
	to = append(appendName(append(to, ','), name), '"')
	to = append(e.Addr().AppendTo(to), '"')
	to = append(append(to, `,"`...), name...)
	return strconv.AppendUint(append(to, `_port":`...), uint64(e.Port()), 10)
}

func appendSeconds(to []byte, name string, s Seconds) []byte {
	v := time.Duration(s).Round(time.Millisecond).Seconds()
	return strconv.AppendFloat(appendName(append(to, ','), name), v, 'f', -1, 64)
}
