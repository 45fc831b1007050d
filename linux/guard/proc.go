//go:build linux

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
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// procSockets is eachSocket for kernels without sock_diag. /proc/net shows neither the option IPV6_V6ONLY nor the
// interface that a socket is bound to; procSockets includes such sockets.
func procSockets(proto uint8, lo, hi uint16, f func(*socket)) error {
	name, states := "tcp", openTCP
	if proto == unix.IPPROTO_UDP {
		name, states = "udp", openUDP
	}
	for _, family := range []string{"", "6"} {
		// /proc/net shows the namespace of the process's main thread, which may be another one.
		b, err := os.ReadFile("/proc/thread-self/net/" + name + family)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("list the host's sockets: %w", err)
		}
		for line := range bytes.Lines(b) {
			s, state, ok := parseSocket(string(line))
			if ok && states>>state&1 != 0 && lo <= s.local.Port() && s.local.Port() <= hi && receives4(&s) {
				s.proto = proto
				f(&s)
			}
		}
	}
	return nil
}

// parseSocket parses one line: number, local address, remote address, state, …, inode.
func parseSocket(line string) (s socket, state uint8, ok bool) {
	const local, remote, stateAt, inode = 1, 2, 3, 9
	f := strings.Fields(line)
	if len(f) <= inode {
		return socket{}, 0, false
	}
	addr, port, ok := parseHexAddr(f[local])
	if !ok {
		return socket{}, 0, false
	}
	peer, peerPort, ok := parseHexAddr(f[remote])
	if !ok {
		return socket{}, 0, false
	}
	n, err := strconv.ParseUint(f[stateAt], 16, 5)
	if err != nil {
		return socket{}, 0, false
	}
	number, err := strconv.ParseUint(f[inode], 10, 32)
	if err != nil {
		return socket{}, 0, false
	}
	s = socket{local: netip.AddrPortFrom(addr, port), inode: uint32(number)}
	if peerPort != 0 && n != listening {
		s.remote = netip.AddrPortFrom(peer, peerPort)
	}
	return s, uint8(n), true
}

// parseHexAddr parses "0100007F:0016": the 32-bit words of the address in host order, and the port.
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

// owners returns the names of the programs that have the sockets open, by inode. It omits those that it cannot
// determine.
func owners(sockets []Socket) map[uint32]string {
	programs := make(map[uint32]string)
	for i := range sockets {
		programs[sockets[i].inode] = "a program"
	}
	if len(programs) == 0 {
		return programs
	}
	files, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, f := range files {
		target, err := os.Readlink(f)
		if err != nil || !strings.HasPrefix(target, "socket:[") {
			continue
		}
		inode, err := strconv.ParseUint(strings.Trim(target[len("socket:"):], "[]"), 10, 32)
		if _, wanted := programs[uint32(inode)]; err != nil || !wanted {
			continue
		}
		pid := strings.Split(f, "/")[2]
		if name, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil { // otherwise it has just ended
			programs[uint32(inode)] = fmt.Sprintf("%s (pid %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	if _, orphans := programs[0]; orphans {
		programs[0] = "a program that has ended"
	}
	return programs
}
