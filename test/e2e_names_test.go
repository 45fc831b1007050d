package test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nat64d/lab"
)

// serveScoped64 runs a name server at a link-local address of the IPv4-only host, which has an IPv4 address for every
// name. It returns the address as the gateway reaches it.
func serveScoped64(t *testing.T, l *lab.Lab) string {
	t.Helper()
	if err := l.Server.SetSysctl("net/ipv6/conf/all/disable_ipv6", "0"); err != nil {
		t.Fatal(err)
	}
	c, err := l.Server.ListenPacket("udp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if h := q.Question[0]; h.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: h.Name, Rrtype: h.Qtype, Class: 1, Ttl: 60}, A: net.ParseIP(lab.Server4)}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	t.Cleanup(func() { _ = s.Shutdown() })
	var address string
	eventually(t, startWithin, "the server has a link-local address", func() error {
		out, err := l.Server.Output(limit(t, 5*time.Second), "ip", "-6", "-o", "address", "show", "scope", "link")
		for _, word := range strings.Fields(out) {
			if a, _, ok := strings.Cut(word, "/"); ok && strings.HasPrefix(a, "fe80::") && !strings.Contains(out, "tentative") {
				address = a
				return err
			}
		}
		return errors.New(out)
	})
	return fmt.Sprintf("[%s%%%s]:53", address, l.NIC4)
}

// The gateway starts while another resolver uses its port. It translates, warns, and answers names once the port is
// free, also those of the host itself. Its upstream has a link-local address on an interface that goes down and up
// again.
func TestDNS64PortInUse(t *testing.T) {
	l := network(t, lab.Options{})
	upstream := serveScoped64(t, l)
	other, err := l.Gateway.Listen("tcp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	g := startConfig(t, l, fmt.Sprintf("pool4: [ { address: %s, ports: 7000-8000 } ]\ndns64: { enabled: true, upstreams: ['%s'] }\n", lab.Gateway4, upstream))
	if out, err := l.Client.Output(limit(t, 10*time.Second), "ping", "-c", "1", "-W", "2", lab.Server4As6); err != nil {
		t.Errorf("packets are not translated: %v: %s", err, out)
	}
	for command, want := range map[string]string{"status": "DNS64 does not answer on [::]:53", "dns64 status": "address already in use"} {
		if got := g.must(strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("nat64ctl %s does not show %q:\n%s", command, want, got)
		}
	}
	other.Close()
	answers := func(from *lab.Namespace, server, name string) {
		t.Helper()
		want := "NOERROR; " + name + " AAAA " + lab.Server4As6
		eventually(t, startWithin, name+" is answered at "+server, func() error {
			if got := ask64(t, from, "+time=1", "@"+server, name+".example.net", "AAAA"); got != want {
				return fmt.Errorf("got %s, want %s", got, want)
			}
			return nil
		})
	}
	answers(l.Client, lab.Gateway6, "a")
	answers(l.Gateway, "::1", "b")
	answers(l.Gateway, "127.0.0.1", "c")
	for _, up := range []bool{false, true} {
		if err := l.Gateway.SetUp(l.NIC4, up); err != nil {
			t.Fatal(err)
		}
	}
	answers(l.Client, lab.Gateway6, "d")
	g.stop()
}
