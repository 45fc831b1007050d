//go:build linux

package guard

import (
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"nat64d/pool4"
)

// The settings of the namespace of the thread that opens these files. The guard writes only the first.
const (
	ReservedPortsFile = "/proc/sys/net/ipv4/ip_local_reserved_ports"
	rangeFile         = "/proc/sys/net/ipv4/ip_local_port_range"
)

// ports is a bit set of port numbers.
type ports [1 << 16 / 64]uint64

// add adds lo to hi, both included.
func (p *ports) add(lo, hi uint16) {
	for n := int(lo); n <= int(hi); n++ {
		p[n/64] |= 1 << (n % 64)
	}
}

// has reports whether n is in the set.
func (p *ports) has(n uint16) bool { return p[n/64]>>(n%64)&1 != 0 }

// plus returns the union.
func (p ports) plus(q ports) ports {
	for i := range p {
		p[i] |= q[i]
	}
	return p
}

// minus returns the ports that are not in q.
func (p ports) minus(q ports) ports {
	for i := range p {
		p[i] &^= q[i]
	}
	return p
}

// within returns the number of ports from lo to hi.
func (p ports) within(lo, hi uint16) int {
	var r ports
	r.add(lo, hi)
	n := 0
	for i := range p {
		n += bits.OnesCount64(p[i] & r[i])
	}
	return n
}

// span is a range of ports, both ends included.
type span struct{ lo, hi uint16 }

// String formats the span as the kernel does.
func (s span) String() string {
	if s.lo == s.hi {
		return strconv.Itoa(int(s.lo))
	}
	return fmt.Sprintf("%d-%d", s.lo, s.hi)
}

// spans returns the set as the smallest number of ranges.
func (p *ports) spans() []span {
	var list []span
	for n := range 1 << 16 {
		port := uint16(n)
		switch {
		case !p.has(port):
		case port > 0 && p.has(port-1):
			list[len(list)-1].hi = port
		default:
			list = append(list, span{port, port})
		}
	}
	return list
}

// String formats the set as the kernel does.
func (p ports) String() string {
	var s []string
	for _, r := range p.spans() {
		s = append(s, r.String())
	}
	return strings.Join(s, ",")
}

// parsePorts parses the kernel's format: "22,7000-8000", or an empty string.
func parsePorts(s string) (ports, error) {
	var p ports
	s = strings.TrimSpace(s)
	if s == "" {
		return p, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		lo, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return ports{}, fmt.Errorf("%q is not a list of ports such as 22,7000-8000", s)
		}
		hi, err := strconv.ParseUint(last, 10, 16)
		if err != nil || hi < lo {
			return ports{}, fmt.Errorf("%q is not a list of ports such as 22,7000-8000", s)
		}
		p.add(uint16(lo), uint16(hi))
	}
	return p, nil
}

// reservedPorts reads the reserved ports, which the kernel does not assign to connections of the host.
func reservedPorts() (ports, error) {
	b, err := os.ReadFile(ReservedPortsFile)
	if err != nil {
		return ports{}, fmt.Errorf("reserved ports: %w", err)
	}
	p, err := parsePorts(string(b))
	if err != nil {
		return ports{}, fmt.Errorf("reserved ports: %s: %w", ReservedPortsFile, err)
	}
	return p, nil
}

// reserve writes the reserved ports if they change.
func reserve(from, to ports) error {
	if from == to {
		return nil
	}
	if err := os.WriteFile(ReservedPortsFile, []byte(to.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("reserved ports: %w", err)
	}
	return nil
}

// mayReserve reports why ports cannot be reserved, such as a read-only /proc/sys. The guard asks before it adds ports to its table:
// each addition that it had to take back would be a change of the table, after which the guard checks itself again, without end.
func mayReserve() error {
	f, err := os.OpenFile(ReservedPortsFile, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reserved ports: %w", err)
	}
	return f.Close() // nothing was written
}

// ownPorts returns the TCP and UDP ports of entries on addresses that the host owns.
func ownPorts(entries []pool4.Entry) (ports, error) {
	var p ports
	owned, err := ownAddresses()
	if err != nil {
		return p, err
	}
	for _, e := range entries {
		if transport(e) != 0 && slices.Contains(owned, e.Addr) {
			p.add(e.Lo, e.Hi)
		}
	}
	return p, nil
}

// ownAddresses returns the addresses of the host.
func ownAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of this host: %w", err)
	}
	var owned []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				owned = append(owned, ip.Unmap())
			}
		}
	}
	return owned, nil
}

// Unreserved returns the ports of entries on the host's own addresses that the kernel may assign to connections of the host,
// and what ip_local_reserved_ports must be to prevent that, both in the kernel's notation. Both are empty if there are none.
func Unreserved(entries []pool4.Entry) (missing, want string, err error) {
	own, err := ownPorts(entries)
	if err != nil {
		return "", "", err
	}
	reserved, err := reservedPorts()
	if err != nil {
		return "", "", err
	}
	lo, hi, err := portRange()
	if err != nil {
		return "", "", err
	}
	var ephemeral ports
	ephemeral.add(lo, hi)
	rest := own.minus(reserved)
	if rest.within(lo, hi) == 0 {
		return "", "", nil
	}
	return rest.minus(rest.minus(ephemeral)).String(), reserved.plus(own).String(), nil
}

// portRange reads the range of ephemeral ports of the host.
func portRange() (lo, hi uint16, err error) {
	b, err := os.ReadFile(rangeFile)
	if err != nil {
		return 0, 0, fmt.Errorf("port range: %w", err)
	}
	if _, err := fmt.Sscan(string(b), &lo, &hi); err != nil {
		return 0, 0, fmt.Errorf("port range: %s: %w", rangeFile, err)
	}
	return lo, hi, nil
}

// AboveEphemeral returns the first port above those that the kernel assigns to connections of the host.
func AboveEphemeral() (uint16, error) {
	lo, hi, err := portRange()
	if err != nil {
		return 0, err
	}
	if hi == 1<<16-1 {
		return 0, fmt.Errorf("pool4: no port is above net.ipv4.ip_local_port_range, which is %d-%d: give the row with the interface ports, "+
			"or lower the range, for example with sysctl -w net.ipv4.ip_local_port_range=\"%d 60999\"", lo, hi, min(lo, 32768))
	}
	return hi + 1, nil
}
