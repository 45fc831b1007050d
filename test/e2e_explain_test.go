package test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/ops/control"
	"nat64d/ops/trace"
	"nat64d/packet"
)

// explainFile has a pool of four ports, a denied port, and an address that only some may send to.
const explainFile = `pool4: [ { address: ` + lab.Spare4 + `, ports: 7000-7003 } ]
deny_v4: [ "0.0.0.0/0:tcp:25" ]
`

// A packet that is sent after a question about it meets the fate that nat64ctl explain has shown.
func TestExplainAgreesWithTraceOfPacketsSent(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, explainFile)
	g.must("bib", "add", "udp", lab.Spare4+":9000", "["+lab.Client6+"]:9000")
	e := newExplained(t, l, g)
	client, own, server := lab.Client6, "64:ff9b::"+lab.Gateway4, lab.Server4As6
	cases := []struct {
		name, args, before string // before: a command of nat64ctl
		verdict, reason    string
	}{
		{"a port without a binding", "udp " + lab.Server4 + " 9 " + lab.Spare4 + " 7003", "", "dropped", "no_binding"},
		{"a new TCP connection", "tcp " + client + " 40001 " + lab.Server4 + " 9", "", "forwarded", ""},
		{"the same flow again", "tcp " + client + " 40001 " + server + " 9", "", "forwarded", ""},
		{"a segment without a session", "tcp " + client + " 40009 " + server + " 9 --flags ack", "", "dropped", "no_session"},
		{"a denied port", "tcp " + client + " 40001 " + server + " 25", "", "dropped", "denied4"},
		{"no route", "udp " + client + " 40001 203.0.113.99 9", "", "dropped", "no_route"},
		{"an address of the host", "udp " + client + " 40001 " + own + " 9", "", "dropped", "host_address"},
		{"a hairpin", "udp " + client + " 40002 " + lab.Spare4 + " 9000", "", "forwarded", ""},
		{"too large, cut", "udp " + client + " 40001 " + server + " 9 --size 1500", "", "forwarded", ""},
		{"the hop limit", "icmp " + client + " 7 " + server + " --hop-limit 1", "", "dropped", "hop_limit"},
		{"a binding from IPv4", "udp " + lab.Server4 + " 9 " + lab.Spare4 + " 9000", "", "forwarded", ""},
		{"a stranger", "udp 203.0.113.5 9 " + lab.Spare4 + " 9000", "config set filtering.mode address_dependent", "dropped", "filtered_address"},
		{"the limit of a client", "udp " + client + " 40005 " + server + " 9", "config set sessions.max_per_client 1", "dropped", "client_sessions"},
		{"a pool without free ports", "tcp " + client + " 40005 " + server + " 9", "pool4 remove " + lab.Spare4 + " 7001-7003 --tcp", "dropped", ""},
		{"an empty pool", "udp " + client + " 40006 " + server + " 9", "pool4 flush --yes", "dropped", "pool_empty"},
		{"translation is paused", "udp " + client + " 40006 " + server + " 9", "pause", "dropped", "paused"},
	}
	for _, c := range cases {
		if c.before != "" {
			g.must(strings.Fields(c.before)...)
		}
		x := e.check(c.name, c.args)
		if x.Verdict.Verdict != c.verdict || c.reason != "" && x.Reason != c.reason {
			t.Errorf("%s: %s is %s, %s; want %s, %s", c.name, c.args, x.Verdict.Verdict, x.Reason, c.verdict, c.reason)
		}
	}
	g.stop()
}

// explained compares explanations with a trace of the packets.
type explained struct {
	t      *testing.T
	g      *daemon
	send   [packet.Families]func([]byte)
	traced chan control.Traced
}

func newExplained(t *testing.T, l *lab.Lab, g *daemon) *explained {
	t.Helper()
	e := &explained{t: t, g: g, traced: make(chan control.Traced, 1000)}
	e.send[packet.V6] = sender(t, l.Client, l.Gateway, l.NIC6, unix.ETH_P_IPV6)
	e.send[packet.V4] = sender(t, l.Server, l.Gateway, l.NIC4, unix.ETH_P_IP)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		c := control.Client{Socket: g.socket}
		filter := control.TraceFilter{Peer: netip.MustParsePrefix("0.0.0.0/0")} // of all packets, those for the host included
		done <- c.Trace(ctx, filter, func(p control.Traced) error { e.traced <- p; return nil }, func(uint64) error { return errors.New("missed") })
	}()
	// Both next hops are known, and the trace runs, when a ping with its answer is in it.
	eventually(t, 5*time.Second, "a ping is traced", func() error {
		e.send[packet.V6](forgedIP(netip.MustParseAddr(lab.Client6), netip.MustParseAddr(lab.Server4As6), unix.IPPROTO_ICMPV6, forgedEcho(128, 1)))
		select {
		case p := <-e.traced:
			if p.Direction == "4to6" && p.Verdict.Verdict == "forwarded" {
				return nil
			}
			return fmt.Errorf("%s", p.Received.Text)
		case <-time.After(50 * time.Millisecond):
			return errors.New("nothing")
		}
	})
	return e
}

// check explains a packet, sends it, and compares the explanation with the trace.
func (e *explained) check(name, args string) (x control.Explanation) {
	e.t.Helper()
	decode(e.t, e.g.must(strings.Fields("explain -o json "+args)...), &x)
	probe := probeOf(&x.Received)
	b, err := probe.Packet()
	if err != nil {
		e.t.Fatal(err)
	}
	e.send[probe.Side()](b)
	within := time.After(5 * time.Second)
	for {
		select {
		case p := <-e.traced:
			if p.Received.Text == x.Received.Text {
				e.compare(name, &x.Verdict, &p.Verdict)
				return x
			}
		case <-within:
			e.t.Fatalf("%s: no packet was traced that is %s", name, x.Received.Text)
		}
	}
}

func (e *explained) compare(name string, x, p *control.Verdict) {
	e.t.Helper()
	text := func(h *control.Headers) string {
		if h == nil {
			return "nothing"
		}
		return h.Text
	}
	same := x.Verdict == p.Verdict && x.Reason == p.Reason && x.Direction == p.Direction && x.Mapped == p.Mapped && x.MappedPort == p.MappedPort &&
		x.Client == p.Client && x.ClientPort == p.ClientPort && x.NextHop == p.NextHop && x.Pieces == p.Pieces && x.Session == p.Session && x.State == p.State
	if !same || text(x.Sent) != text(p.Sent) || text(x.Answer) != text(p.Answer) {
		e.t.Errorf("%s: explained as %+v\nsent %s\nanswer %s\n\ntraced as %+v\nsent %s\nanswer %s", name, x, text(x.Sent), text(x.Answer), p, text(p.Sent), text(p.Answer))
	}
}

// probeOf returns the packet with these headers.
func probeOf(h *control.Headers) trace.Probe {
	protos := map[string]packet.Proto{"tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP}
	p := trace.Probe{Proto: protos[h.Protocol], Length: h.Length, HopLimit: uint8(h.HopLimit)}
	p.Src, p.Dst = netip.AddrPortFrom(h.Source, h.SourcePort), netip.AddrPortFrom(h.Destination, h.DestinationPort)
	if h.Identifier != nil {
		p.Src = netip.AddrPortFrom(h.Source, *h.Identifier)
	}
	for bit, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK"} {
		if strings.Contains(h.Flags, name) {
			p.Flags |= 1 << bit
		}
	}
	return p
}
