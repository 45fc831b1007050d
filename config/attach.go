package config

import (
	"cmp"
	"net/netip"
	"strings"
)

// Attach is how an interface carries the packets of its side.
type Attach string

// The choices. With AttachHost, the interface is one end of a veth pair that nat64d makes: the end that belongs to the host's own IP
// stack. Packets that the stack routes there are translated, and the stack forwards the translated packets.
const (
	AttachNIC  Attach = "nic"
	AttachHost Attach = "host"
)

// Forwarding selects whether nat64d makes the host forward the packets of AttachHost.
type Forwarding string

// The choices. With ForwardingManage nat64d restores the settings when it stops.
const (
	ForwardingManage Forwarding = "manage"
	ForwardingLeave  Forwarding = "leave"
)

// defaultWord may stand for the name of the v4 interface: that of the IPv4 default route.
const defaultWord = "default"

// hostWord may stand for the name of an interface: AttachHost with the default name.
const hostWord = "host"

// The default names of pairs, and the pool4 of a pair of the IPv4 side: private addresses that the host routes to nat64d and
// masquerades.
const (
	hostName6 = "nat64"
	hostName4 = "nat64-v4"
	hostPool4 = "10.64.64.64/30"
)

// innerSuffix is what the name of the gateway's end of a pair adds (linux/pair).
const innerSuffix = "-in"

// NIC returns the name of the interface on which nat64d receives and sends frames: the gateway's end of a pair, or the interface itself.
func (i *Interface) NIC() string {
	if i.Attach == AttachHost {
		return i.Name + innerSuffix
	}
	return i.Name
}

// attach replaces the notations of AttachHost by its keys, with the default names and the default pool4.
func (f *file) attach() {
	v6, v4 := &f.Interfaces.V6, &f.Interfaces.V4
	named := func(name, attach *string, standard string) {
		if *name == hostWord {
			*name, *attach = "", string(AttachHost)
		}
		if *attach == string(AttachHost) {
			*name = cmp.Or(*name, standard)
		}
	}
	named(&v6.Name, &v6.Attach, hostName6)
	named(&v4.Name, &v4.Attach, hostName4)
	switch {
	case len(f.Pool4) > 0:
	case v4.Attach == string(AttachHost):
		f.Pool4 = []rawPool4{{Address: hostPool4}}
	case v4.Name == defaultWord:
		f.Pool4 = []rawPool4{{Interface: defaultWord}}
	}
}

// WithUplink returns c with another name of a v4 interface that is the one of the default route.
func (c *Config) WithUplink(name string) *Config {
	next := *c
	next.Interfaces.V4.Name = name
	return &next
}

// pairAddress reads the address of the host's end of the IPv6 pair.
func (d *document) pairAddress(text string, attach Attach) netip.Addr {
	const key = "interfaces.v6.address"
	if text == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "" || !a.IsGlobalUnicast():
		d.problem(key, "is %q, but must be an IPv6 address that only this machine has, such as fd00:64::53", text)
	case attach != AttachHost:
		d.problem(key, "is for attach: host; give a NIC its addresses with ip address")
	}
	return a
}

// checkNames reports interfaces without a name, or with a name that the kernel would refuse.
func (d *document) checkNames(f *file) {
	v6, v4 := &f.Interfaces.V6, &f.Interfaces.V4
	for _, i := range []struct{ side, name, attach string }{{"v6", v6.Name, v6.Attach}, {"v4", v4.Name, v4.Attach}} {
		key, longest := "interfaces."+i.side+".name", 15
		if i.attach == string(AttachHost) {
			longest -= len(innerSuffix)
		}
		switch {
		case i.name == "":
			d.problem(key, "missing; name the NIC of the IP%s side here or with --%s", i.side, i.side)
		case len(i.name) > longest && longest < 15:
			d.problem(key, "%q is too long; with attach: host it may have %d bytes, because the other end of the pair is called %s%s", i.name, longest, i.name, innerSuffix)
		case len(i.name) > longest || strings.ContainsAny(i.name, "/: \t\n") || i.name == "." || i.name == "..":
			d.problem(key, "%q cannot be the name of an interface; the kernel takes up to 15 bytes without blanks, / or :", i.name)
		}
	}
	paired := v6.Attach == string(AttachHost) || v4.Attach == string(AttachHost)
	if paired && !f.Host.Guard {
		d.problem("host.guard", "is off, but attach: host needs the guard: without it, the host would route translated packets back to nat64d again and again")
	}
	if v6.Name == v4.Name && v6.Name != "" && paired {
		d.problem("interfaces.v4.name", "is %q like that of the IPv6 side; with attach: host each side takes a name of its own", v4.Name)
	}
}
