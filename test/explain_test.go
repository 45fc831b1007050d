package test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/gateway"
	"nat64d/ops/trace"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
)

// explain returns what would become of a packet, which must change nothing.
func (o *observed) explain(t rapid.TB, side packet.Family, b []byte) gateway.Verdict {
	t.Helper()
	before := o.contents()
	x := o.Explain(side, bytes.Clone(b))
	if after := o.contents(); after != before {
		t.Fatalf("explain has changed %+v to %+v", before, after)
	}
	return x.Verdict
}

// contents is what Explain must not change.
type contents struct {
	sessions, bindings, held, syns int
	dropped                        uint64
	asked                          int32
}

func (s *setting) contents() (c contents) {
	for p := range packet.Protos {
		c.sessions += s.Sessions.Len(p)
		c.bindings += s.Bindings.Len(p)
	}
	for _, u := range s.Pool4.Usage() {
		c.held += u.Held
	}
	for r := drop.None + 1; r < drop.Count; r++ {
		c.dropped += s.Counters.Drops(r)
	}
	c.syns, c.asked = s.SYNs.Len(), s.routes.asked.Load()
	return c
}

// agreeVerdicts compares what was explained with what was traced.
func agreeVerdicts(t rapid.TB, explained, traced gateway.Verdict) {
	t.Helper()
	for _, v := range []*gateway.Verdict{&explained, &traced} {
		v.Flow, v.Turned, v.At = nameless(v.Flow), nameless(v.Turned), 0 // a session has its name only when the packet has made it
		if !v.Passed.Has(gateway.Hairpins) {
			v.Turned = session.Flow{}
		}
		if v.Out.Length == 0 {
			v.Out = gateway.Header{}
		}
		if !v.Passed.Has(gateway.Found) {
			v.Hop = packet.Hop{}
		}
		if v.Answer.Length == 0 {
			v.Answer = gateway.Header{}
		}
	}
	if traced.Silence == gateway.RateLimited { // a rate is not part of an explanation
		explained.Answer, explained.AnswerRest, explained.Silence = traced.Answer, traced.AnswerRest, traced.Silence
	}
	if explained != traced {
		t.Fatalf("explained as\n%+v\ntraced as\n%+v", explained, traced)
	}
}

// nameless returns a flow without the name of its session.
func nameless(f session.Flow) session.Flow {
	return session.Flow{Client: f.Client, Mapped: f.Mapped, Remote: f.Remote, Proto: f.Proto, Prefix: f.Prefix}
}

// TestExplainTraceAndCaptureAgree sends random packets through a gateway whose limits are small.
func TestExplainTraceAndCaptureAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		o := ordinary()
		o.ports = rapid.SampledFrom([]string{"1024-1031", "1024-1087"}).Draw(rt, "ports")
		o.routes.ways = map[netip.Addr]drop.Reason{netip.MustParseAddr("198.51.100.21"): drop.NoRoute}
		o.routes.mtu4 = rapid.SampledFrom([]uint32{1500, 1400}).Draw(rt, "MTU")
		o.conf = func(c *gateway.Config) {
			c.Session.AllowInboundTCP = rapid.Bool().Draw(rt, "inbound")
			c.Session.AddressDependent = rapid.Bool().Draw(rt, "address-dependent")
			c.Session.MaxPerClient = rapid.SampledFrom([]int{0, 5}).Draw(rt, "sessions of a client")
			c.Session.PortBlockSize = rapid.SampledFrom([]int{0, 16}).Draw(rt, "port block")
			c.Session.Reclaim = rapid.Bool().Draw(rt, "reclaim")
			c.Deny4 = []netip.Prefix{netip.MustParsePrefix("198.51.100.22/32")}
			c.DenyPorts = []gateway.PortRule{{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Proto: packet.TCP, Lo: 25, Hi: 25}}
			c.Answers = [drop.Choices]bool{drop.Ordinary: true, drop.IfDenied: true, drop.IfFiltered: true, drop.IfUnbound: true}
			c.ResetUnknownTCP = rapid.Bool().Draw(rt, "reset")
			c.SYNs, c.Fragments = synstore.Limits{Total: 2, Lifetime: 6 * time.Second}, fragment.Limits{}
		}
		s := observe(rt, newSetting(rt, o))
		for range rapid.IntRange(1, 8).Draw(rt, "packets") {
			draw(rt, s)
		}
	})
}

// draw sends a random packet, often one that belongs to a binding.
func draw(t *rapid.T, o *observed) {
	p := trace.Probe{
		Proto:    packet.Proto(rapid.IntRange(0, 2).Draw(t, "protocol")),
		Flags:    rapid.SampledFrom([]uint8{packet.FlagSYN, packet.FlagSYN, packet.FlagACK, packet.FlagRST, packet.FlagFIN | packet.FlagACK}).Draw(t, "flags"),
		Reply:    rapid.Bool().Draw(t, "reply"),
		Length:   rapid.SampledFrom([]int{60, 100, 1400, 1420, 1480, 1500}).Draw(t, "length"),
		DF:       rapid.Bool().Draw(t, "DF"),
		HopLimit: rapid.SampledFrom([]uint8{64, 64, 64, 2, 1}).Draw(t, "hop limit"),
	}
	remote := netip.MustParseAddr(rapid.SampledFrom([]string{"198.51.100.20", "198.51.100.20", "198.51.100.21", "198.51.100.22", "203.0.113.1", "192.168.0.1"}).Draw(t, "remote"))
	port := rapid.SampledFrom([]uint16{25, 80, 1024, 1025, 1030}).Draw(t, "remote port")
	if rapid.IntRange(0, 2).Draw(t, "from IPv4") == 0 {
		at := packet.Endpoint4{Addr: poolAddr.As4(), Port: rapid.Uint16Range(1020, 1040).Draw(t, "mapped")}
		if bound := o.bindings(); len(bound) > 0 && rapid.Bool().Draw(t, "bound") {
			b := bound[rapid.IntRange(0, len(bound)-1).Draw(t, "binding")]
			p.Proto, at = b.Proto, b.Mapped
		}
		p.Src, p.Dst = netip.AddrPortFrom(remote, port), netip.AddrPortFrom(netip.AddrFrom4(at.Addr), at.Port)
		if p.Proto == packet.ICMP {
			p.Src = netip.AddrPortFrom(remote, at.Port)
		}
	} else {
		client := netip.MustParseAddr(rapid.SampledFrom([]string{"2001:db8:1::10", "2001:db8:1::11", "2001:db8:2::1", "2001:db8:64::c000:201", "fe80::1"}).Draw(t, "client"))
		a := remote.As4()
		to := serverAs6.As16()
		copy(to[12:], a[:])
		p.Src, p.Dst = netip.AddrPortFrom(client, rapid.Uint16Range(1024, 1030).Draw(t, "port")), netip.AddrPortFrom(netip.AddrFrom16(to), port)
	}
	b, err := p.Packet()
	if err != nil {
		t.Fatal(err)
	}
	x := o.explain(t, p.Side(), b)
	got := o.send(p.Side(), b)
	list := o.records(t, 1)
	o.agree(t, [][]byte{b}, list, got)
	agreeVerdicts(t, x, list[0].Verdict)
}
