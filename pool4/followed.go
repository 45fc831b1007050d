package pool4

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	"nat64d/packet"
)

// Followed is a row of configuration or commands that stands for the IPv4 address that an interface has at the time, with the
// ports of one protocol.
type Followed struct {
	Interface string       `json:"interface"`
	Proto     packet.Proto `json:"proto"`
	Lo        uint16       `json:"lo"`   // first port or Identifier
	Hi        uint16       `json:"hi"`   // last one
	Auto      bool         `json:"auto"` // the ports above those that the host's own connections use, instead of Lo to Hi
}

// interfacePrefix begins a word that stands for the address of an interface.
const interfacePrefix = "interface:"

// SplitInterface splits a word such as interface:eth1 or interface:eth1:61000-61999 into the name of the interface and ports.
// It reports false for other words.
func SplitInterface(s string) (name, ports string, ok bool) {
	rest, ok := strings.CutPrefix(s, interfacePrefix)
	if !ok {
		return "", "", false
	}
	if name, ports = Split(rest); ports == "" {
		name = rest
	}
	return name, ports, true
}

// ParseFollowed parses the name of an interface and ports as in ParseRange. Without ports, the rows have those above the
// host's ephemeral ports. It returns one row for each protocol; without protocols, rows of all three.
func ParseFollowed(name, ports string, protos ...packet.Proto) ([]Followed, error) {
	if err := checkInterface(name); err != nil {
		return nil, err
	}
	if len(protos) == 0 {
		protos = []packet.Proto{packet.TCP, packet.UDP, packet.ICMP}
	}
	var list []Followed
	for _, p := range protos {
		e, err := parsePorts(ports, p)
		if err != nil {
			return nil, err
		}
		f := Followed{Interface: name, Proto: p, Lo: e.Lo, Hi: e.Hi}
		if ports == "" {
			f.Lo, f.Hi, f.Auto = 0, 0, true
		}
		list = append(list, f)
	}
	return list, nil
}

// checkInterface returns an error if the kernel permits no interface of that name (dev_valid_name).
func checkInterface(name string) error {
	const longest = 15 // IFNAMSIZ
	bad := func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) }
	switch {
	case name == "":
		return fmt.Errorf("pool4: no interface: write interface:eth1")
	case len(name) > longest || name == "." || name == ".." || strings.ContainsFunc(name, bad):
		return fmt.Errorf("pool4: %q is not the name of an interface: it has at most %d bytes, without blanks, colons and slashes", name, longest)
	}
	return nil
}

// String returns the row in the form of a command, for instance "udp interface:eth1 7000-8000".
func (f Followed) String() string {
	switch {
	case f.Auto:
		return fmt.Sprintf("%v %s%s", f.Proto, interfacePrefix, f.Interface)
	case f.Lo == f.Hi:
		return fmt.Sprintf("%v %s%s %d", f.Proto, interfacePrefix, f.Interface, f.Lo)
	}
	return fmt.Sprintf("%v %s%s %d-%d", f.Proto, interfacePrefix, f.Interface, f.Lo, f.Hi)
}

// Compare orders rows by interface, then protocol, then ports.
func (f Followed) Compare(g Followed) int {
	auto := func(f Followed) int {
		if f.Auto {
			return 0
		}
		return 1
	}
	return cmp.Or(strings.Compare(f.Interface, g.Interface), cmp.Compare(f.Proto, g.Proto), cmp.Compare(auto(f), auto(g)),
		cmp.Compare(f.Lo, g.Lo), cmp.Compare(f.Hi, g.Hi))
}

// Entry returns the range that the row stands for while the interface has an address. above is the first port above the host's
// ephemeral ones.
func (f Followed) Entry(a netip.Addr, above uint16) Entry {
	if f.Auto {
		return Entry{Addr: a, Proto: f.Proto, Lo: above, Hi: 65535}
	}
	return Entry{Addr: a, Proto: f.Proto, Lo: f.Lo, Hi: f.Hi}
}

// UseOf returns the numbers of transport addresses of an entry that are in use and, of the others, held down. The entry need
// not be in the pool: its ports can have been removed while bindings have them.
func (p *Pool) UseOf(e Entry) (used, held int) {
	p.mu.RLock()
	r := p.rows[e.Proto][numOf(e.Addr)]
	p.mu.RUnlock()
	if r == nil {
		return 0, 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports == nil {
		return 0, 0
	}
	return r.ports.count(e.span())
}
