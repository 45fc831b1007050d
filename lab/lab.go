//go:build linux

// Package lab builds small networks from Linux network namespaces and veth pairs or TAP devices, and sends traffic
// through them. The demonstration, the end-to-end tests and the benchmarks use it. It implements no RFC and does not depend on the
// gateway; the addresses are those of RFC 5737 and RFC 3849.
//
//	c6 (IPv6 only)                       gw                         s4 (IPv4 only)
//	eth0 2001:db8:1::2/64 ──── v6 2001:db8:1::1/64
//	     64:ff9b::/96 via gw          v4 192.0.2.1/24 ──── eth0 192.0.2.2/24
//
// Options.Far adds one host behind each end, which then acts as a router, too:
//
//	f6 2001:db8:3::2/64 ──── far 2001:db8:3::1/64 c6 ── gw ── s4 far 203.0.113.1/24 ──── 203.0.113.2/24 f4
//
// Lab needs root. It leaves processes outside its namespaces alone, and Close removes everything that New made.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
)

// The addresses of every lab. They provide all three kinds of pool4 without further set-up: the gateway's own
// address, an unused one on the server's link, and a network that the server routes to the gateway.
const (
	Client6    = "2001:db8:1::2"     // of the client; further ones follow: …::3, …::4
	Gateway6   = "2001:db8:1::1"     // of the gateway towards the client
	Gateway4   = "192.0.2.1"         // of the gateway towards the server
	Server4    = "192.0.2.2"         // of the server
	Server4As6 = "64:ff9b::c000:202" // of the server, as the client sees it (RFC 6052 section 2.4)
	Spare4     = "192.0.2.64"        // on the server's link, owned by no interface
	Routed4    = "198.51.100.0/24"   // routed by the server to the gateway
	Prefix6    = "64:ff9b::/96"      // routed by the client to the gateway
	Server6    = "2001:db8:2::2"     // of the server while plain IPv6 forwarding is on
	FarClient6 = "2001:db8:3::2"     // of the host behind the client
	FarServer4 = "203.0.113.2"       // of the host behind the server
)

const (
	forwarding6   = "2001:db8:2::1"      // of the gateway while plain IPv6 forwarding is on
	minimumEndMTU = 1500                 // of the client's and the server's interface
	defaultMTU    = 1500                 // of the gateway's interfaces
	maximumHosts  = 200                  // clients of one lab
	clientNetwork = "2001:db8:1::/64"    // of the client's link
	serverNetwork = "2001:db8:2::/64"    // of the server's link while plain IPv6 forwarding is on
	farNetwork6   = "2001:db8:3::/64"    // of the link behind the client
	farNetwork4   = "203.0.113.0/24"     // of the link behind the server
	farRouter6    = "2001:db8:3::1"      // of the client on that link
	farRouter4    = "203.0.113.1"        // of the server on that link
	namespaceRoot = "/run/netns"         // where ip(8) looks for namespaces
	namePrefix    = "nat64lab"           // of every namespace's name
	sysctlRoot    = "/proc/sys/"         // shows the namespace of the calling thread
	everyone      = "net/ipv6/conf/all/" // the sysctl directory for all interfaces
)

// Options are the parameters of a lab. The zero value selects the usual network.
type Options struct {
	// MTU6 and MTU4 are the MTUs of the gateway's two interfaces, 0 for 1500. The ends keep at least 1500, so that
	// a smaller one makes the gateway the bottleneck of the path.
	MTU6, MTU4 int
	// OneNIC gives the gateway a single interface, eth0, for both families; client and server are on its link.
	OneNIC bool
	// NoOffload makes the ends send frames of at most the MTU with complete checksums, like an old NIC. Otherwise
	// they send super-packets of up to 64 KiB with partial checksums, like veth and virtio.
	NoOffload bool
	// Clients is the number of IPv6 addresses of the client, 0 for 1. A NAT64 treats each as a separate host.
	Clients int
	// Far adds a host behind the client and one behind the server. They announce the segment size of an ordinary link
	// whatever the MTU of their own, so only path MTU discovery finds a smaller link.
	Far bool
	// TAP connects TAP devices instead of veth pairs: each interface has NAPI and the offloads of a virtio NIC, and a
	// sender does not run the receiver's soft interrupts. A Switch carries the frames.
	TAP bool
}

// Lab is a client, a gateway and a server, each in its own namespace. Its methods are not safe for concurrent use;
// those of Namespace are.
type Lab struct {
	Client, Gateway, Server *Namespace
	// FarClient and FarServer are the hosts behind the client and the server, nil without Options.Far.
	FarClient, FarServer *Namespace
	// NIC6 and NIC4 name the gateway's interfaces towards the client and the server.
	NIC6, NIC4 string

	// Switch carries the frames of the cables, nil without Options.TAP.
	Switch *Switch

	opt        Options
	wire       *Namespace // contains the bridge of a lab with OneNIC, otherwise nil
	namespaces []*Namespace
	pods       int
	cables     map[plug]*Cable
}

var sequence atomic.Uint32

// New builds a lab. It first removes what labs of dead processes have left behind.
func New(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: network namespaces need root: run this as root")
	}
	if o.Clients < 0 || o.Clients > maximumHosts {
		return nil, fmt.Errorf("lab: %d clients: must be at most %d", o.Clients, maximumHosts)
	}
	if err := removeStale(); err != nil {
		return nil, err
	}
	l := &Lab{opt: o, NIC6: "v6", NIC4: "v4", cables: make(map[plug]*Cable)}
	if o.OneNIC {
		l.NIC6, l.NIC4 = "eth0", "eth0"
	}
	if err := l.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) build() (err error) {
	if l.opt.TAP {
		if l.Switch, err = newSwitch(); err != nil {
			return err
		}
	}
	number := sequence.Add(1)
	for _, r := range []struct {
		role   string
		at     **Namespace
		wanted bool
	}{
		{"c6", &l.Client, true}, {"gw", &l.Gateway, true}, {"s4", &l.Server, true},
		{"wire", &l.wire, l.opt.OneNIC}, {"f6", &l.FarClient, l.opt.Far}, {"f4", &l.FarServer, l.opt.Far},
	} {
		if !r.wanted {
			continue
		}
		n, err := newNamespace(fmt.Sprintf("%s-%d-%d-%s", namePrefix, os.Getpid(), number, r.role))
		if err != nil {
			return err
		}
		*r.at = n
		l.namespaces = append(l.namespaces, n)
	}
	if err := l.Server.SetSysctl(everyone+"disable_ipv6", "1"); err != nil {
		return err
	}
	if err := l.plug(); err != nil {
		return err
	}
	if !l.opt.Far {
		return nil
	}
	return errors.Join(l.plugFar6(), l.plugFar4())
}

func (l *Lab) plug() error {
	if l.opt.OneNIC {
		return l.plugOne()
	}
	if err := l.Plug6(); err != nil {
		return err
	}
	return l.Plug4()
}

// Close ends the processes in the namespaces and removes the namespaces. Close may be called more than once.
func (l *Lab) Close() error {
	var errs []error
	for _, n := range l.namespaces {
		errs = append(errs, n.remove())
	}
	l.namespaces = nil
	clear(l.cables)
	if s := l.Switch; s != nil {
		l.Switch = nil
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// ClientAddress returns the address of the i-th client, counted from 0.
func ClientAddress(i int) netip.Addr {
	a := netip.MustParseAddr(Client6).As16()
	a[15] += byte(i)
	return netip.AddrFrom16(a)
}
