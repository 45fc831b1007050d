package session

// State is the state of a session. TCP sessions have those of RFC 6146 section 3.5.2.1; CLOSED there means that no
// session exists. UDP and ICMP sessions have one state, Active.
type State uint8

// The states. The zero value is that of a slot without a session.
const (
	Closed State = iota
	Active
	V4Init
	V6Init
	Established
	V4FinRcv
	V6FinRcv
	V4FinV6FinRcv
	Trans
	states
)

// String returns the state's name in RFC 6146, with underscores.
func (s State) String() string {
	return [states]string{
		Closed:        "CLOSED",
		Active:        "ACTIVE",
		V4Init:        "V4_INIT",
		V6Init:        "V6_INIT",
		Established:   "ESTABLISHED",
		V4FinRcv:      "V4_FIN_RCV",
		V6FinRcv:      "V6_FIN_RCV",
		V4FinV6FinRcv: "V4_FIN_V6_FIN_RCV",
		Trans:         "TRANS",
	}[s]
}
