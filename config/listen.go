package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Listen is where an HTTP server of nat64d listens, in the notation of metrics.listen. The zero value is nowhere.
type Listen struct {
	Addrs []netip.AddrPort // TCP; none with a Path
	Path  string           // of a unix socket
}

// String returns the notation that ParseListen reads.
func (l Listen) String() string {
	switch {
	case l.Path != "":
		return "unix:" + l.Path
	case len(l.Addrs) == len(loopbacks):
		return fmt.Sprintf(":%d", l.Addrs[0].Port())
	case len(l.Addrs) == 1:
		return l.Addrs[0].String()
	}
	return ""
}

// Off reports whether the server listens nowhere.
func (l Listen) Off() bool { return l.String() == "" }

// maxSocketPath is the size of sun_path in sockaddr_un without the terminating zero.
const maxSocketPath = 107

// loopbacks are the addresses that a port without an address stands for.
var loopbacks = [...]netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}

// notation is the end of an error about where to listen.
const notation = `must be :9464 (both loopback addresses), an address and a port such as 192.0.2.1:9464 or [2001:db8::1]:9464, ` +
	`unix:/run/nat64d/metrics.sock, or "" (off)`

// ParseListen reads where a server listens: "" is off, :9464 is that port of both loopback addresses, 192.0.2.1:9464 and
// [2001:db8::1]:9464 are an address and a port, unix:/path is a socket.
func ParseListen(text string) (Listen, error) {
	if text == "" {
		return Listen{}, nil
	}
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return listenPath(path)
	}
	if strings.HasPrefix(text, ":") {
		p, err := netip.ParseAddrPort("[::]" + text)
		if err != nil || p.Port() == 0 {
			return Listen{}, errors.New(notation)
		}
		return Listen{Addrs: []netip.AddrPort{netip.AddrPortFrom(loopbacks[0], p.Port()), netip.AddrPortFrom(loopbacks[1], p.Port())}}, nil
	}
	a, err := netip.ParseAddrPort(text)
	switch {
	case err != nil || a.Port() == 0:
		return Listen{}, errors.New(notation + similar(text))
	case a.Addr().IsMulticast():
		return Listen{}, fmt.Errorf("%v is a multicast address; %s", a.Addr(), notation)
	case a.Addr().IsLinkLocalUnicast() && a.Addr().Is6() && a.Addr().Zone() == "":
		return Listen{}, fmt.Errorf("%v is link-local and needs its interface: [%v%%eth0]:%d", a.Addr(), a.Addr(), a.Port())
	}
	if err := scoped(a.Addr()); err != nil {
		return Listen{}, err
	}
	return Listen{Addrs: []netip.AddrPort{a}}, nil
}

// listenPath reads the path of a unix socket.
func listenPath(path string) (Listen, error) {
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.ContainsRune(path, 0):
		return Listen{}, errors.New("the socket needs an absolute path, such as unix:/run/nat64d/metrics.sock")
	case len(path) > maxSocketPath:
		return Listen{}, fmt.Errorf("the path of the socket has %d bytes, but can have %d at most", len(path), maxSocketPath)
	}
	return Listen{Path: path}, nil
}

// similar returns what was probably meant by a notation that is not valid.
func similar(text string) string {
	host, port, _ := strings.Cut(text, ":")
	if strings.HasPrefix(text, "/") {
		return "; did you mean unix:" + text + "?"
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return fmt.Sprintf("; did you mean %v?", netip.AddrPortFrom(a, 9464))
	}
	switch {
	case strings.Trim(text, "0123456789") == "":
		return "; did you mean :" + text + "?"
	case host == "localhost" && port != "":
		return "; did you mean :" + port + "?"
	case host == "*" && port != "":
		return fmt.Sprintf("; did you mean [::]:%s, which is every address of this machine?", port)
	}
	return ""
}

// listen checks where a server listens.
func (d *document) listen(key, text string) Listen {
	l, err := ParseListen(text)
	if err != nil {
		d.problem(key, "is %q, but %s", text, err)
	}
	return l
}
