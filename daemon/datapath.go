//go:build linux

package daemon

import (
	"net/netip"
	"time"

	"nat64d/config"
	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/gateway"
	"nat64d/linux/afpacket"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/xlat"
)

// coalescing returns what the gateway coalesces, given the setting and whether the kernel supports super-packets of
// UDP.
func coalescing(asked, udp bool) gateway.Coalescing {
	switch {
	case asked && udp:
		return gateway.CoalesceAll
	case asked:
		return gateway.CoalesceTCP
	}
	return gateway.CoalesceNone
}

// gatewayConfigLocked converts the configuration and the state of the host to the configuration of the data path. The
// caller holds d.admin, unless nothing runs yet.
func (d *Daemon) gatewayConfigLocked(c *config.Config) gateway.Config {
	g := gateway.Config{
		Pool6:           c.Pool6,
		Xlat:            xlatConfig(&c.Translation),
		Bypass:          d.admin.local.bypass,
		Broadcasts:      d.admin.local.broadcasts,
		Allow6:          c.AllowV6,
		NoEcho:          c.Filtering.DropICMPv6Info,
		MTU6:            uint32(c.Interfaces.V6.MTU),
		MTU4:            uint32(c.Interfaces.V4.MTU),
		LowestIPv6MTU:   c.Translation.LowestIPv6MTU,
		ClampMSS:        c.Translation.TCPMSSClamp,
		Answers:         answers(&c.ICMP),
		LiteralReporter: c.ICMP.LiteralSource,
		Coalesce:        coalescing(c.Interfaces.Coalesce, afpacket.UDPSuperPackets()),
		Moderation:      c.Interfaces.Moderation,
		ResetUnknownTCP: c.Sessions.ResetUnknownTCP,
		Session:         d.sessionConfig(c),
		SYNs: synstore.Limits{
			Total: c.Sessions.MaxStoredSYNs, PerSource: c.Sessions.MaxStoredSYNsPerSource,
			PerPool4: c.Sessions.MaxStoredSYNsPerPool4, Lifetime: c.Sessions.Timeouts.TCPSyn,
		},
		Fragments: fragment.Limits{
			Time: c.Sessions.Timeouts.Fragment, Bytes: c.Fragments.Memory,
			PerSourceBytes: c.Fragments.MemoryPerSource, PerSource: c.Fragments.PerSource,
			PrefixLen: c.Sessions.ClientPrefixLen,
		},
	}
	if c.ICMP.Errors != config.ICMPErrorsAll {
		g.ErrorsPerSecond, g.ErrorsTotal, g.TooBigPerSecond = c.ICMP.Rate, c.ICMP.RateTotal, c.ICMP.RateTooBig
	}
	g.Allow4 = c.AllowV4
	g.Deny4, g.DenyPorts = denied(c.DenyV4)
	g.SourceCheck, g.Private = c.Filtering.SourceCheck, c.PrivateV4
	for _, mtu := range c.Translation.MTUPlateaus {
		g.Plateaus = append(g.Plateaus, uint16(mtu))
	}
	if c.ICMP.SourceV6.IsValid() {
		g.Source6 = c.ICMP.SourceV6.As16()
	}
	if c.ICMP.SourceV4.IsValid() {
		g.Source4 = c.ICMP.SourceV4.As4()
	}
	g.FromHost4 = d.pairs.of[packet.V4] != nil
	d.sourcesBehindPairs(&g)
	return g
}

// dummy is the IPv4 dummy address (RFC 7600 section 7).
var dummy = packet.Addr4{192, 0, 0, 8}

// sourcesBehindPairs chooses the sources of our own ICMP errors that the host's stack has to forward: it would drop packets that arrive
// with an address of its own.
func (d *Daemon) sourcesBehindPairs(g *gateway.Config) {
	if d.pairs.of[packet.V6] != nil && g.Source6 == (packet.Addr6{}) && len(g.Pool6) > 0 {
		g.Source6 = g.Pool6[0].Embed(dummy)
	}
	if all := d.pool.Addresses(); d.pairs.of[packet.V4] != nil && g.Source4 == (packet.Addr4{}) && len(all) > 0 {
		g.Source4 = all[0].As4()
	}
}

// answers returns which of the optional ICMP errors are sent.
func answers(c *config.ICMP) [drop.Choices]bool {
	if c.Errors == config.ICMPErrorsOff {
		return [drop.Choices]bool{}
	}
	return [drop.Choices]bool{
		drop.Ordinary: true, drop.IfDenied: c.AnswerDenied, drop.IfFiltered: c.AnswerFiltered, drop.IfUnbound: c.AnswerUnbound,
	}
}

// denied separates rows that deny hosts from rows that deny ports.
func denied(rows []config.Deny) (hosts []netip.Prefix, ports []gateway.PortRule) {
	for _, r := range rows {
		if r.Proto == "" {
			hosts = append(hosts, r.Prefix)
			continue
		}
		proto, _ := parseProto(r.Proto) // validated by config
		ports = append(ports, gateway.PortRule{Prefix: r.Prefix, Proto: proto, Lo: r.Lo, Hi: r.Hi})
	}
	return hosts, ports
}

func xlatConfig(t *config.Translation) xlat.Config {
	x := xlat.Config{TOS: xlat.CopyTOS, TrafficClass: xlat.CopyTOS, ZeroUDPDrop: t.ZeroUDPDrop}
	if !t.CopyTOS {
		x.TOS = int(t.TOS)
	}
	if !t.CopyTrafficClass {
		x.TrafficClass = int(t.TrafficClass)
	}
	return x
}

// portRest is our own choice: a port in hold-down is not used again earlier, even if no other is free. Late packets to
// its last client arrive within a few seconds.
const portRest = 4 * time.Second

func (d *Daemon) sessionConfig(c *config.Config) session.Config {
	s, t := &c.Sessions, &c.Sessions.Timeouts
	return session.Config{
		Timeouts: session.Timeouts{
			UDP: t.UDP, UDPDNS: t.UDPDNS, ICMP: t.ICMP, TCPEstablished: t.TCPEstablished, TCPOpening: t.TCPOpening,
			TCPTransitory: t.TCPTransitory,
		},
		AllowInboundTCP:      c.Filtering.AllowInboundTCP,
		AddressDependent:     c.Filtering.AddressDependent,
		Reclaim:              s.Reclaim,
		InboundRefresh:       s.InboundRefresh,
		InternetIsV6:         s.InternetIsV6,
		RSTDuringFIN:         s.RSTDuringFIN,
		CheckSequence:        s.CheckTCPSequence,
		Max:                  s.Max,
		MaxPerClient:         s.MaxPerClient,
		MaxBindingsPerClient: s.MaxBindingsPerClient,
		FairShare:            s.FairShare,
		MaxPerBinding:        s.MaxPerBinding,
		MaxInbound:           s.MaxInbound,
		MaxInboundPerClient:  s.MaxInboundPerClient,
		MaxInboundPerBinding: s.MaxInboundPerBinding,
		NewPerSecond:         s.NewPerSecond,
		ClientPrefixLen:      s.ClientPrefixLen,
		MaxHeldPorts:         s.MaxHeldPorts,
		PortBlockSize:        s.PortBlockSize,
		PortHoldDown:         s.PortHoldDown,
		PortRest:             portRest,
		HashFields:           s.PortHashFields,
	}
}
