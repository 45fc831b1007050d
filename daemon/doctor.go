//go:build linux

package daemon

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nat64d/config"
	"nat64d/linux/nexthop"
	"nat64d/linux/pair"
	"nat64d/ops/control"
	"nat64d/ops/doctor"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
)

// explained are the tasks whose reasons for not being ready have checks of their own.
var explained = []string{"routes", "guard", "data path"}

// Doctor implements control.Diagnosis.
func (b *backend) Doctor(ctx context.Context, q control.DoctorRequest) ([]control.Finding, error) {
	c := b.config()
	b.admin.Lock()
	taken := b.takenLocked()
	b.admin.Unlock()
	f, err := doctor.Read(machine(c, taken))
	if err != nil {
		f.Warnings = append(f.Warnings, "some facts of this machine cannot be read: "+err.Error())
	}
	settings(f, c)
	f.V6.Lacks = unconnected("v6", b.routes.Link6(), b.routes.Connected6())
	f.V4.Lacks = unconnected("v4", b.routes.Link4(), b.routes.Connected4())
	for _, a := range b.routes.Addresses() {
		addAddress(f, a)
	}
	for i, u := range b.usage() {
		f.Pool.Usage = append(f.Pool.Usage, doctor.Usage{
			Protocol: u.Protocol, Ports: u.Pool4Ports, Used: u.Pool4Used, Waiting: waiting(b.routes, b.followed(), protocols[i]),
		})
	}
	f.Host.Guard = b.guard.notReady()
	f.Paused = b.gateway.Paused()
	for _, t := range b.readiness.tasks {
		if t.notReady != nil && !slices.Contains(explained, t.name) {
			f.Unready = append(f.Unready, t.notReady()...)
		}
	}
	f.Warnings = append(f.Warnings, b.ownWarnings()...)
	f.DNS = b.askDNS64(ctx, q.DNS)
	if q.Probe != "" {
		f.Echo = b.echo(ctx, netip.MustParseAddr(q.Probe), f.V4.MTU)
	}
	return doctor.Examine(f), nil
}

// CheckHost examines the machine for a gateway with the configuration c, which is in file, that does not run yet.
func CheckHost(c *config.Config, file string, log *LogQueue) ([]control.Finding, error) {
	mode, err := nexthop.ParseAnswerARP(c.Host.AnswerARP)
	if err != nil {
		return nil, err
	}
	if uplink, err := pair.Uplink4(); err == nil && uplink != "" && c.Interfaces.V4.Default {
		c = c.WithUplink(uplink)
	}
	routes, err := nexthop.New(names(c), mode, newLogs(config.Log{Level: "error", Format: "text"}, log).Logger)
	if err != nil {
		return nil, err
	}
	followed, err := (&following{}).withRows(c.Followed, routes)
	if err != nil {
		return nil, err
	}
	ranges := append(slices.Clone(c.Pool4), followed.entries()...)
	taken := slices.Clone(ranges)
	for e := range expand(c.Bindings) {
		taken = append(taken, e)
	}
	f, err := doctor.Read(machine(c, merged(taken)))
	if err != nil {
		return nil, err
	}
	settings(f, c)
	if !f.V6.Pair { // nat64d makes pairs when it starts
		f.V6.Lacks = unconnected("v6", routes.Link6(), routes.Connected6())
	}
	if !f.V4.Pair {
		f.V4.Lacks = unconnected("v4", routes.Link4(), routes.Connected4())
	}
	if c.Host.Forwarding == config.ForwardingManage { // and makes the machine forward
		f.Host.Forwards = [2]bool{true, true}
	}
	hosts := routes.HostAddresses()
	for _, e := range ranges {
		if slices.Contains(hosts, e.Addr) {
			addAddress(f, nexthop.Address{Addr: e.Addr, State: nexthop.AddressOfHost})
		}
	}
	for _, p := range protocols {
		u := doctor.Usage{Protocol: p.String(), Waiting: waiting(routes, followed, p)}
		for _, e := range ranges {
			if e.Proto == p {
				u.Ports += portCount(e)
			}
		}
		f.Pool.Usage = append(f.Pool.Usage, u)
	}
	f.Host.Unreserved = "" // nat64d reserves them when it starts, and switches receive offload on
	for _, s := range []*doctor.Side{&f.V6, &f.V4} {
		if s.Offloads != nil && c.Interfaces.Offloads != config.OffloadsLeave {
			s.Offloads["rx-gro"] = true
		}
	}
	f.Warnings = append(f.Warnings, c.Warnings...)
	found := doctor.Examine(f)
	for i := range found {
		if strings.HasPrefix(found[i].Command, "nat64ctl ") { // which needs a running nat64d
			found[i].Command = "sudoedit " + cmp.Or(file, "FILE")
		}
	}
	return found, nil
}

// machine returns what doctor needs to know to read the facts of this machine.
func machine(c *config.Config, taken []pool4.Entry) doctor.Gateway {
	v6, v4 := &c.Interfaces.V6, &c.Interfaces.V4
	return doctor.Gateway{
		V6: v6.NIC(), V4: v4.NIC(), Pairs: [2]bool{v6.Attach == config.AttachHost, v4.Attach == config.AttachHost},
		Entries: taken, Reserve: c.Host.ReservePorts && c.Host.Guard,
	}
}

// settings adds the facts of the configuration.
func settings(f *doctor.Facts, c *config.Config) {
	for _, p := range c.Pool6 {
		f.Pool.Prefixes = append(f.Pool.Prefixes, p.Prefix())
	}
	f.Pool.LowestMTU, f.Pool.Clamps = c.Translation.LowestIPv6MTU, c.Translation.TCPMSSClamp != config.MSSOff
	f.Host.GuardOff = !c.Host.Guard
	f.Host.Forwards = [2]bool{pair.Forwards(packet.V6), pair.Forwards(packet.V4)}
}

// addAddress adds an address of pool4. The facts may have it already, with another station that answers for it.
func addAddress(f *doctor.Facts, a nexthop.Address) {
	n := doctor.Address{Addr: a.Addr, Owned: a.State == nexthop.AddressOfHost, Lost: a.State == nexthop.AddressLost, Station: a.Station}
	i := slices.IndexFunc(f.Pool.Addresses, func(have doctor.Address) bool { return have.Addr == a.Addr })
	if i < 0 {
		f.Pool.Addresses = append(f.Pool.Addresses, n)
		return
	}
	f.Pool.Addresses[i].Owned = n.Owned
}

// arpaName is the name whose addresses reveal the prefix of a DNS64, and arpaAddresses are its IPv4 addresses (RFC 7050).
const arpaName = "ipv4only.arpa."

var arpaAddresses = [...][4]byte{{192, 0, 0, 170}, {192, 0, 0, 171}}

// dnsPatience is how long a DNS64 may take to answer: our own choice.
const dnsPatience = 2 * time.Second

// askDNS64 asks a DNS64 for its prefixes: the server, or the forwarder of nat64d if it is empty.
func (b *backend) askDNS64(ctx context.Context, server string) (d doctor.DNS) {
	ctx, cancel := context.WithTimeout(ctx, dnsPatience)
	defer cancel()
	var m *dns.Msg
	var err error
	switch {
	case server != "":
		d.Server = server
		q := new(dns.Msg).SetQuestion(arpaName, dns.TypeAAAA)
		m, _, err = new(dns.Client).ExchangeContext(ctx, q, netip.AddrPortFrom(netip.MustParseAddr(server), 53).String())
	case b.dns64.f != nil:
		d.Server = "of nat64d"
		m, _, err = b.dns64.f.Query(ctx, netip.IPv6Unspecified(), arpaName, dns.TypeAAAA)
	default:
		return d
	}
	switch {
	case err != nil:
		d.Trouble = err.Error()
	case m.Rcode != dns.RcodeSuccess:
		d.Trouble = dns.RcodeToString[m.Rcode]
	default:
		d.Prefixes = prefixesIn(m.Answer)
	}
	return d
}

// prefixesIn returns the prefixes behind which records have the addresses of ipv4only.arpa (RFC 7050 section 3).
func prefixesIn(records []dns.RR) (list []netip.Prefix) {
	for _, rr := range records {
		aaaa, ok := rr.(*dns.AAAA)
		if !ok {
			continue
		}
		a, _ := netip.AddrFromSlice(aaaa.AAAA.To16())
		for _, bits := range []int{32, 40, 48, 56, 64, 96} {
			masked, err := a.Prefix(bits)
			if err != nil {
				continue
			}
			p, err := pool6.FromPrefix(masked)
			if err != nil {
				continue
			}
			for _, known := range arpaAddresses {
				if p.Embed(known) == a.As16() && !slices.Contains(list, masked) {
					list = append(list, masked)
				}
			}
		}
	}
	return list
}
