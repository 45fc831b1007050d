package dns64

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// The upstreams of the longest zone answer a name, and no others, also if they fail or a chain leads there.
func TestZones(t *testing.T) {
	t.Parallel()
	outer := startFake(t, zone(t, "h.example.com. 60 A 198.51.100.1, h.corp.example. 60 A 198.51.100.1, up.lab.corp.example. 60 A 198.51.100.1, xcorp.example. 60 A 198.51.100.1"))
	corp := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := zone(t, "h.corp.example. 60 A 198.51.100.2, corp.example. 60 A 198.51.100.2")(w, q)
		if same(q.Question[0].Name, "ext.corp.example.") {
			m.Rcode, m.Ns, m.Answer = dns.RcodeSuccess, nil, records(t, "ext.corp.example. 60 CNAME h.example.com.")
		}
		return m
	})
	lab := startFake(t, zone(t, "h.lab.corp.example. 60 A 198.51.100.3, h.other.example. 60 A 198.51.100.3"))
	silent := startFake(t, func(_ dns.ResponseWriter, q *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(q, dns.RcodeRefused) })
	c := testConfig(t)
	c.Upstreams = NewUpstreams([]Upstream{outer.udp}, false, nil,
		Zone{"corp.example.", []Upstream{corp.udp}}, Zone{"lab.corp.example.", []Upstream{silent.udp, lab.udp}}, Zone{"other.example.", []Upstream{lab.udp}},
		Zone{"down.example.", []Upstream{silent.udp}})
	f, server := serve(t, c)
	for name, want := range map[string]string{
		"h.example.com.": "198.51.100.1", "H.Corp.Example.": "198.51.100.2", "corp.example.": "198.51.100.2", "xcorp.example.": "198.51.100.1",
		"h.lab.corp.example.": "198.51.100.3", "h.other.example.": "198.51.100.3", "up.lab.corp.example.": "NXDOMAIN", "h.down.example.": "SERVFAIL",
		"ext.corp.example.": "198.51.100.1",
	} {
		m := exchange(t, "udp", server, nil, name, dns.TypeA)
		got := dns.RcodeToString[m.Rcode]
		if n := len(m.Answer); n > 0 {
			got = m.Answer[n-1].(*dns.A).A.String()
		}
		if want == "SERVFAIL" && got == "REFUSED" {
			got = want // an error of the only upstream
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	m := exchange(t, "udp", server, nil, "ext.corp.example.", dns.TypeAAAA)
	if got := m.Answer[len(m.Answer)-1].String(); !strings.HasSuffix(got, "2001:db8:64::c633:6401") {
		t.Errorf("synthesized %s", got)
	}
	var list []string
	for _, u := range f.Config().Upstreams.State() {
		list = append(list, strings.Join(u.Zones, " "))
	}
	if want := []string{".", "corp.example.", "lab.corp.example. down.example.", "lab.corp.example. other.example."}; !slices.Equal(list, want) {
		t.Errorf("the upstreams serve %q, want %q", list, want)
	}
	if down := c.Upstreams.Down(); down != nil {
		t.Errorf("down: %q", down)
	}
}

// upstreams_validate is about the upstreams of names outside of zones: the AD bit of those of a zone is not trusted.
func TestZonesDoNotValidate(t *testing.T) {
	t.Parallel()
	answer := zone(t, "h.example.com. 60 A 198.51.100.1, h.corp.example. 60 A 198.51.100.2")
	up := startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
		m := answer(w, q)
		m.AuthenticatedData = true
		return m
	})
	c := testConfig(t)
	c.Policy.Validated = true
	c.Upstreams = NewUpstreams([]Upstream{up.udp}, false, nil, Zone{"corp.example.", []Upstream{up.udp}})
	_, server := serve(t, c)
	for name, want := range map[string]bool{"h.example.com.": true, "h.corp.example.": false} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			m := exchange(t, "udp", server, func(q *dns.Msg) { q.SetEdns0(1232, true) }, name, kind)
			if m.AuthenticatedData != want || len(m.Answer) != 1 {
				t.Errorf("%s %s: got %v", name, dns.Type(kind), m)
			}
		}
	}
}

// Answers that were cached from other upstreams are forgotten when zones change, and kept otherwise.
func TestCacheFollowsZones(t *testing.T) {
	t.Parallel()
	outer := startFake(t, zone(t, "h.corp.example. 60 A 198.51.100.1"))
	corp := startFake(t, zone(t, "h.corp.example. 60 A 198.51.100.2"))
	c := testConfig(t, outer.udp)
	f := New(c, slog.New(slog.DiscardHandler))
	ask := func() string {
		t.Helper()
		m, _, err := f.Query(t.Context(), c.Clients[0].Addr(), "h.corp.example", dns.TypeA)
		if err != nil || len(m.Answer) != 1 {
			t.Fatalf("%v, %v", m, err)
		}
		return m.Answer[0].(*dns.A).A.String()
	}
	if got := ask(); got != "198.51.100.1" {
		t.Errorf("without zones: got %s", got)
	}
	z := Zone{"corp.example.", []Upstream{corp.udp}}
	if c.Upstreams.Are([]Upstream{outer.udp}, false, z) {
		t.Error("a new zone is no change")
	}
	c.Upstreams = NewUpstreams([]Upstream{outer.udp}, false, nil, z)
	f.Configure(c)
	if got := ask(); got != "198.51.100.2" {
		t.Errorf("with a zone: got %s", got)
	}
	if f.Configure(c); !c.Upstreams.Are([]Upstream{outer.udp}, false, z) || f.Remembered() == 0 {
		t.Error("the same zones are a change")
	}
}
