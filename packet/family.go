package packet

// Family is an address family, and with it the network on that side of the gateway.
type Family uint8

// The families.
const (
	V6 Family = iota
	V4
	Families // how many there are
)

// String returns v6 or v4.
func (f Family) String() string {
	if f >= Families {
		return "none"
	}
	return [Families]string{"v6", "v4"}[f]
}
