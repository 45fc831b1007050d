//go:build linux

package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nat64d/pool4"
)

// Socket is a TCP or UDP socket of the host on a transport address of pool4. The guard drops the packets that the v4
// interface receives for it.
type Socket struct {
	Entry  pool4.Entry    // the range that contains the socket's port
	Local  netip.AddrPort // the address is unspecified if the socket is bound to none
	Remote netip.AddrPort // the peer of a connection; zero if the socket listens
	inode  uint32         // 0: the program has closed it, and the kernel finishes the connection
}

// Connected reports whether the socket is an open connection; if not, it listens.
func (s *Socket) Connected() bool { return s.Remote.Port() != 0 }

// Describe returns descriptions of sockets, with their programs if these can be determined.
func Describe(sockets []Socket) []string {
	programs := owners(sockets)
	list := make([]string, len(sockets))
	for i := range sockets {
		s := &sockets[i]
		list[i] = fmt.Sprintf("%s listens on %v port %d of this host", programs[s.inode], s.Local.Addr(), s.Local.Port())
		if s.Connected() {
			list[i] = fmt.Sprintf("%s has a connection from %v port %d of this host to %v port %d", programs[s.inode], s.Local.Addr(),
				s.Local.Port(), s.Remote.Addr(), s.Remote.Port())
		}
	}
	return list
}

// Sockets returns the sockets of the host that a guard of entries would cut off: listening ones, connections and
// connected UDP sockets, of IPv4 and of IPv6 with IPv4-mapped addresses. It reads the socket tables only if entries
// contain an address of the host. It is safe for concurrent use.
func (g *Guard) Sockets(entries []pool4.Entry) ([]Socket, error) {
	owned, err := ownAddresses()
	if err != nil {
		return nil, err
	}
	t := newTaken(entries, owned)
	if nic, err := net.InterfaceByName(g.o.V4); err == nil {
		t.device = uint32(nic.Index)
	}
	var found []Socket
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		lo, hi, any := t.bounds(proto)
		if !any {
			continue
		}
		err := eachSocket(proto, lo, hi, func(s *socket) {
			if e, ok := t.collides(s); ok {
				found = append(found, Socket{Entry: e, Local: s.local, Remote: s.remote, inode: s.inode})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// taken are the transport addresses of pool4 on the host's own addresses.
type taken struct {
	owned  []netip.Addr
	device uint32 // index of the v4 interface; 0: it does not exist
	ranges map[uint8][]pool4.Entry
}

func newTaken(entries []pool4.Entry, owned []netip.Addr) *taken {
	t := &taken{owned: owned, ranges: make(map[uint8][]pool4.Entry)}
	for _, e := range entries {
		if p := transport(e); p != 0 && slices.Contains(owned, e.Addr) {
			t.ranges[p] = append(t.ranges[p], e)
		}
	}
	return t
}

// bounds returns the lowest and the highest port of a protocol; false if there is none.
func (t *taken) bounds(proto uint8) (lo, hi uint16, any bool) {
	lo = 1<<16 - 1
	for _, e := range t.ranges[proto] {
		lo, hi, any = min(lo, e.Lo), max(hi, e.Hi), true
	}
	return lo, hi, any
}

// collides returns the range that contains the port of a socket that receives from the v4 interface. A connection
// between two addresses of the host uses the loopback interface, where the guard drops nothing.
func (t *taken) collides(s *socket) (pool4.Entry, bool) {
	switch {
	case s.device != 0 && s.device != t.device,
		s.remote.Port() != 0 && (s.remote.Addr().IsLoopback() || slices.Contains(t.owned, s.remote.Addr())):
		return pool4.Entry{}, false
	}
	a, port := s.local.Addr(), s.local.Port()
	for _, e := range t.ranges[s.proto] {
		if e.Lo <= port && port <= e.Hi && (a == e.Addr || a.IsUnspecified()) {
			return e, true
		}
	}
	return pool4.Entry{}, false
}

// socket is the kernel's description of a socket that can receive IPv4.
type socket struct {
	proto         uint8
	local, remote netip.AddrPort
	device        uint32 // the interface that it is bound to; 0: any
	inode         uint32
}

// The states of sockets: TCP_… of the kernel's include/net/tcp_states.h. UDP has the first and close.
const (
	established = 1
	finWait2    = 5
	timeWait    = 6
	closed      = 7
	listening   = 10

	// openTCP are the states in which a socket listens, or either side may still send or expect an acknowledgment. In
	// TIME_WAIT and CLOSE there is no data to lose. 12 is NEW_SYN_RECV.
	openTCP = 1<<13 - 2 - 1<<timeWait - 1<<closed
	openUDP = 1<<established | 1<<closed
)

// The layout of struct inet_diag_req_v2 and inet_diag_msg, of include/uapi/linux/inet_diag.h.
const (
	diagByFamily  = 20 // SOCK_DIAG_BY_FAMILY
	diagRequest   = 56
	diagMessage   = 72
	diagBytecode  = 1  // INET_DIAG_REQ_BYTECODE
	diagV6Only    = 11 // INET_DIAG_SKV6ONLY
	portAtLeast   = 2  // INET_DIAG_BC_S_GE
	portAtMost    = 3  // INET_DIAG_BC_S_LE
	diagInstr     = 4
	diagSource    = 4 // offsets in the message
	diagDest      = 6
	diagSrcAddr   = 8
	diagDstAddr   = 24
	diagInterface = 40
	diagInode     = 68
)

// eachSocket calls f for the sockets of a protocol with local ports from lo to hi. The kernel filters them
// (sock_diag(7)), so a host with 100,000 other connections pays for the walk through its table, but not for copies.
// Without sock_diag it reads /proc/net.
func eachSocket(proto uint8, lo, hi uint16, f func(*socket)) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		list, err := diagnose(family, proto, lo, hi)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
			return procSockets(proto, lo, hi, f)
		}
		if err != nil {
			return fmt.Errorf("list the host's sockets: %w", err)
		}
		for _, m := range list {
			if s, ok := parseDiag(m.Data); ok {
				s.proto = proto
				f(&s)
			}
		}
	}
	return nil
}

// diagnose requests the sockets of a family from the kernel.
func diagnose(family, proto uint8, lo, hi uint16) ([]netlink.Message, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	states := uint32(openTCP)
	if proto == unix.IPPROTO_UDP {
		states = openUDP
	}
	b := make([]byte, diagRequest, diagRequest+4+4*diagInstr)
	b[0], b[1] = family, proto
	binary.NativeEndian.PutUint32(b[4:], states)
	b = append(b, portFilter(lo, hi)...)
	return c.Execute(netlink.Message{
		Header: netlink.Header{Type: diagByFamily, Flags: netlink.Request | netlink.Dump}, Data: b,
	})
}

// portFilter returns the attribute that restricts the local ports. Each instruction is followed by one with the port
// in its last field; a jump to four bytes after the end rejects the socket.
func portFilter(lo, hi uint16) []byte {
	const size = 4 * diagInstr
	b := make([]byte, 4+size)
	binary.NativeEndian.PutUint16(b, 4+size)
	binary.NativeEndian.PutUint16(b[2:], diagBytecode)
	for i, c := range []struct {
		code uint8
		port uint16
	}{{portAtLeast, lo}, {portAtMost, hi}} {
		op := b[4+i*2*diagInstr:]
		op[0], op[1] = c.code, 2*diagInstr
		binary.NativeEndian.PutUint16(op[2:], uint16(size-i*2*diagInstr+4))
		binary.NativeEndian.PutUint16(op[diagInstr+2:], c.port)
	}
	return b
}

// parseDiag parses a message of the kernel; false if the socket cannot receive IPv4, or has no data to lose.
func parseDiag(b []byte) (socket, bool) {
	if len(b) < diagMessage {
		return socket{}, false
	}
	size := 4
	if b[0] == unix.AF_INET6 {
		size = 16
	}
	local, _ := netip.AddrFromSlice(b[diagSrcAddr : diagSrcAddr+size])
	remote, _ := netip.AddrFromSlice(b[diagDstAddr : diagDstAddr+size])
	s := socket{
		local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(b[diagSource:])),
		device: binary.NativeEndian.Uint32(b[diagInterface:]),
		inode:  binary.NativeEndian.Uint32(b[diagInode:]),
	}
	if port := binary.BigEndian.Uint16(b[diagDest:]); port != 0 && b[1] != listening {
		s.remote = netip.AddrPortFrom(remote.Unmap(), port)
	}
	orphan := s.inode == 0 && b[1] == finWait2 // the kernel only waits for the peer's FIN
	return s, receives4(&s) && !orphan && !v6Only(b[diagMessage:])
}

// receives4 reports whether a socket can receive IPv4. An IPv6 socket can if its addresses are IPv4-mapped, or if it
// has neither a local nor a remote address.
func receives4(s *socket) bool {
	return s.local.Addr().Is4() || s.local.Addr().IsUnspecified() && s.remote.Port() == 0
}

// v6Only reports whether the attributes of a message contain the option IPV6_V6ONLY.
func v6Only(attributes []byte) bool {
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return false
	}
	for d.Next() {
		if d.Type() == diagV6Only {
			return d.Uint8() != 0
		}
	}
	return false
}
