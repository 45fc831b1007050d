//go:build linux

package guard

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Both ways to list the host's sockets return the same ones.
func TestSocketListsAgree(t *testing.T) {
	t.Parallel()
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		fd, at := bound(t, proto)
		for name, list := range map[string]func(uint8, uint16, uint16, func(*socket)) error{"sock_diag": eachSocket, "/proc": procSockets} {
			var got []socket
			if err := list(proto, at.Port(), at.Port(), func(s *socket) { got = append(got, *s) }); err != nil {
				t.Fatal(err)
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			if want := (socket{proto: proto, local: at, inode: uint32(st.Ino)}); len(got) != 1 || got[0] != want {
				t.Errorf("%s: %+v, want %+v alone", name, got, want)
			}
		}
	}
}

// bound opens a socket that listens on a free port of 127.0.0.1.
func bound(t *testing.T, proto uint8) (fd int, at netip.AddrPort) {
	t.Helper()
	kind := unix.SOCK_DGRAM
	if proto == unix.IPPROTO_TCP {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if proto == unix.IPPROTO_TCP {
		if err := unix.Listen(fd, 1); err != nil {
			t.Fatal(err)
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(sa.(*unix.SockaddrInet4).Port))
}

func FuzzParseDiag(f *testing.F) {
	f.Add(make([]byte, diagMessage))
	f.Add(append(make([]byte, diagMessage), 5, 0, diagV6Only, 0, 1, 0, 0, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseDiag(b); ok && !s.local.Addr().IsValid() {
			t.Errorf("%x: socket without an address", b)
		}
	})
}
