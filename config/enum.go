package config

import (
	"fmt"
	"strings"
)

// PrivateV4 selects whether a prefix may map non-global IPv4 addresses. RFC 6052 section 3.1 forbids it for the Well-Known
// Prefix only.
type PrivateV4 uint8

// The choices. PrivateV4Auto drops packets with such an address behind the Well-Known Prefix and allows them behind other
// prefixes. It allows them behind all when every address of pool4 is itself non-global: the gateway then stands behind
// another NAT or in a laboratory.
const (
	PrivateV4Auto PrivateV4 = iota
	PrivateV4Allow
	PrivateV4Drop
)

// String returns the word for the choice in a file.
func (p PrivateV4) String() string { return [...]string{"auto", "allow", "drop"}[p] }

// SourceCheck selects which route the host must have to the source of a packet from IPv6 (RFC 3704 section 2).
type SourceCheck uint8

// The checks.
const (
	SourceCheckOff    SourceCheck = iota // none
	SourceCheckLoose                     // any
	SourceCheckStrict                    // one that leads out of the v6 interface
)

// String returns the word for the check in a file.
func (s SourceCheck) String() string { return [...]string{"off", "loose", "strict"}[s] }

// valueOf returns the allowed value whose String is the word, and reports a problem if there is none.
func valueOf[T fmt.Stringer](d *document, key, word string, allowed ...T) T {
	var names []string
	for _, a := range allowed {
		if a.String() == word {
			return a
		}
		names = append(names, a.String())
	}
	d.problem(key, "is %q, but must be one of %s", word, strings.Join(names, ", "))
	return allowed[0]
}
