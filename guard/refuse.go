package guard

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"nat64d/pool4"
)

// leastPorts is how many ports the host must keep for its own connections.
const leastPorts = 1000

// Refuse says why entries, beside what is guarded already, would harm the host; nil if they do not. On an address that
// the host owns, a range may neither cover a port on which a program of the host listens, for that program would be cut
// off, nor leave the host fewer than 1,000 ports for its own connections. Any goroutine may call it at any time.
func (g *Guard) Refuse(entries []pool4.Entry) error {
	owned, err := ownAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if transport(e) == 0 || !slices.Contains(owned, e.Addr) {
			continue
		}
		if err := listened(e); err != nil {
			errs = append(errs, err)
		}
	}
	if g.o.ReservePorts {
		errs = append(errs, scarce(entries))
	}
	return errors.Join(errs...)
}

// scarce says whether reserving the ports of entries would leave too few.
func scarce(entries []pool4.Entry) error {
	lo, hi, err := portRange()
	if err != nil {
		return err
	}
	reserved, err := reservedPorts()
	if err != nil {
		return err
	}
	want, err := ownPorts(entries)
	if err != nil {
		return err
	}
	total := int(hi) - int(lo) + 1
	left := total - reserved.plus(want).within(lo, hi)
	if want.within(lo, hi) == 0 || left >= leastPorts {
		return nil
	}
	return fmt.Errorf("pool4 on an address of this host would leave it %d of the %d ports for its own connections "+
		"(net.ipv4.ip_local_port_range %d-%d), and it needs %d: use fewer ports, ports outside that range, an address "+
		"of its own for pool4, or force it (--force, or host.force in the configuration)", left, total, lo, hi, leastPorts)
}

// listened says which program of the host listens on a port of e.
func listened(e pool4.Entry) error {
	for _, family := range []string{"", "6"} {
		// /proc/net would be that of the process's first thread, perhaps of another namespace.
		b, err := os.ReadFile("/proc/thread-self/net/" + e.Proto.String() + family)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("list listening programs: %w", err)
		}
		for line := range bytes.Lines(b) {
			s, ok := parseSocket(string(line))
			if ok && s.listens(e) {
				return fmt.Errorf("pool4 %v: %s listens on %v port %d of this host and would be cut off: "+
					"leave that port out, stop the program, or force it (--force, or host.force in the configuration)", e, owner(s.inode), s.addr, s.port)
			}
		}
	}
	return nil
}

// socket is a line of /proc/net/tcp and its like.
type socket struct {
	addr      netip.Addr
	port      uint16
	listening bool // for UDP: not connected to one peer
	inode     string
}

// listens says whether the socket receives what is sent to a port of e. An IPv6 socket bound to no address usually
// receives IPv4 too.
func (s *socket) listens(e pool4.Entry) bool {
	return s.listening && s.port >= e.Lo && s.port <= e.Hi && (s.addr.IsUnspecified() || s.addr == e.Addr)
}

// parseSocket reads one line: number, local address, remote address, state, …, inode.
func parseSocket(line string) (socket, bool) {
	const (
		local, remote, state, inode = 1, 2, 3, 9

		tcpListen = "0A"
		udpOpen   = "07"
	)
	f := strings.Fields(line)
	if len(f) <= inode {
		return socket{}, false
	}
	addr, port, ok := parseHexAddr(f[local])
	if !ok {
		return socket{}, false
	}
	_, peer, ok := parseHexAddr(f[remote])
	if !ok {
		return socket{}, false
	}
	return socket{
		addr:      addr,
		port:      port,
		listening: f[state] == tcpListen || f[state] == udpOpen && peer == 0,
		inode:     f[inode],
	}, true
}

// parseHexAddr reads "0100007F:0016": 32-bit words of the address in the machine's order, and the port.
func parseHexAddr(s string) (netip.Addr, uint16, bool) {
	a, p, _ := strings.Cut(s, ":")
	port, err := strconv.ParseUint(p, 16, 16)
	if err != nil {
		return netip.Addr{}, 0, false
	}
	b, err := hex.DecodeString(a)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, 0, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr.Unmap(), uint16(port), true
}

// owner names the program that has the socket open, as far as that can be found out.
func owner(inode string) string {
	want := "socket:[" + inode + "]"
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, f := range files {
		if target, err := os.Readlink(f); err != nil || target != want {
			continue
		}
		pid := strings.Split(f, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			break // it has just ended
		}
		return fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
	}
	return "a program"
}
