package dns64

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"nat64d/pool6"
)

const testPrefix = "2001:db8:64::/96"

// mappedAddresses is the default of Exclude, ::ffff:0:0/96 (RFC 6147 section 5.1.4).
var mappedAddresses = netip.PrefixFrom(netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff}), 96)

// testPolicy returns a Policy with prefixes of the documentation range.
func testPolicy(t testing.TB, prefixes ...string) *Policy {
	p := &Policy{Choice: First, Exclude: []netip.Prefix{mappedAddresses}}
	if len(prefixes) == 0 {
		prefixes = []string{testPrefix}
	}
	for _, s := range prefixes {
		prefix, err := pool6.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		p.Prefixes = append(p.Prefixes, Prefix{Prefix: prefix, Private: !prefix.IsWellKnown()})
	}
	return p
}

// message returns an answer to a question about h.example.com: an error, or records separated by commas. Those after a semicolon
// are in the authority section. An empty text is a missing answer.
func message(t testing.TB, kind uint16, text string) *dns.Msg {
	if text == "" {
		return nil
	}
	q := Question{Name: "h.example.com.", Type: kind, Class: dns.ClassINET}
	if rcode, is := dns.StringToRcode[text]; is {
		return reply(q, rcode)
	}
	m := reply(q, dns.RcodeSuccess)
	answer, authority, _ := strings.Cut(text, ";")
	m.Answer, m.Ns = records(t, answer), records(t, authority)
	return m
}

func records(t testing.TB, text string) (rrs []dns.RR) {
	for s := range strings.SplitSeq(text, ",") {
		rr, err := dns.NewRR(strings.TrimSpace(s))
		if err != nil {
			t.Fatal(err)
		}
		if rr != nil {
			rrs = append(rrs, rr)
		}
	}
	return rrs
}

// brief returns an answer in the notation of message, without owner names of h.example.com.
func brief(m *dns.Msg) string {
	if m.Rcode != dns.RcodeSuccess {
		return dns.RcodeToString[m.Rcode]
	}
	var l []string
	for _, rr := range m.Answer {
		s := strings.ReplaceAll(strings.ReplaceAll(rr.String(), "\t", " "), " IN", "")
		l = append(l, strings.TrimPrefix(s, "h.example.com. "))
	}
	if len(m.Ns) > 0 {
		l = append(l, "; "+dns.TypeToString[m.Ns[0].Header().Rrtype])
	}
	return strings.Join(l, ", ")
}

const (
	nodata = ";example.com. 300 SOA ns.example.com. root.example.com. 1 7200 900 1209600 300"
	sig    = " 300 RRSIG %s 13 3 300 20300101000000 20200101000000 1 example.com. c2lnbmF0dXJl"
	a7     = "h.example.com. 1000 A 198.51.100.7"
	made7  = "300 AAAA 2001:db8:64::c633:6407"
	real1  = "h.example.com. 77 AAAA 2001:db8:f::1"
	mapped = "h.example.com. 77 AAAA ::ffff:192.0.2.9"
)

func signature(kind string) string { return "h.example.com." + strings.Replace(sig, "%s", kind, 1) }

func TestSynthesize(t *testing.T) {
	t.Parallel()
	all := func(p *Policy) { p.TranslateAll = []string{"."} }
	none := func(p *Policy) { p.Exclude = []netip.Prefix{netip.MustParsePrefix("::/0")} }
	never := func(p *Policy) { p.Never = []string{"example.com."} }
	for _, row := range []struct {
		name    string
		q       Question
		set     func(*Policy)
		aaaa, a string
		want    string
	}{
		{"A alone", Question{}, nil, nodata, a7, made7},
		{"AAAA alone", Question{}, nil, real1, nodata, "77 AAAA 2001:db8:f::1"},
		{"both", Question{}, nil, real1, a7, "77 AAAA 2001:db8:f::1"},
		{"an IPv4-mapped address alone", Question{}, nil, mapped, nodata, "; SOA"},
		{"an IPv4-mapped address and a real one", Question{}, nil, mapped + "," + real1, a7, "77 AAAA 2001:db8:f::1"},
		{"an IPv4-mapped address and A", Question{}, nil, mapped, a7, "600 AAAA 2001:db8:64::c633:6407"},
		{"an address of the prefix", Question{}, nil, "h.example.com. 5 AAAA 2001:db8:64::1", a7, "5 AAAA 2001:db8:64::1"},
		{"loopback", Question{}, nil, nodata, "h.example.com. 5 A 127.0.0.1", "; SOA"},
		{"link-local", Question{}, nil, nodata, "h.example.com. 5 A 169.254.1.1", "; SOA"},
		{"0/8", Question{}, nil, nodata, "h.example.com. 5 A 0.0.0.0", "; SOA"},
		{"loopback and another", Question{}, nil, nodata, "h.example.com. 5 A 127.0.0.1," + a7, made7},
		{"private", Question{}, nil, nodata, "h.example.com. 5 A 10.0.0.5", "5 AAAA 2001:db8:64::a00:5"},
		{"not mapped", Question{}, func(p *Policy) { p.Mapped = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} }, nodata, a7, "; SOA"},
		{"AAAA refused", Question{}, nil, "REFUSED", a7, "600 AAAA 2001:db8:64::c633:6407"},
		{"AAAA refused, errors count", Question{}, func(p *Policy) { p.ServfailOnError = true }, "REFUSED", a7, "SERVFAIL"},
		{"AAAA a format error, errors count", Question{}, func(p *Policy) { p.ServfailOnError = true }, "FORMERR", a7, "SERVFAIL"},
		{"AAAA never comes, errors count", Question{}, func(p *Policy) { p.ServfailOnError = true }, "", a7, "SERVFAIL"},
		{"AAAA fails and A is loopback", Question{}, nil, "SERVFAIL", "h.example.com. 5 A 127.0.0.1" + nodata, "; SOA"},
		{"AAAA does not exist", Question{}, nil, "NXDOMAIN", a7, "NXDOMAIN"},
		{"neither comes", Question{}, nil, "", "", "SERVFAIL"},
		{"A never comes", Question{}, nil, nodata, "", "SERVFAIL"},
		{"A is refused", Question{}, nil, nodata, "REFUSED", "REFUSED"},
		{"DO, unsigned", Question{DO: true}, nil, nodata, a7, made7},
		{"DO, signed", Question{DO: true}, nil, nodata + "," + signature("SOA"), a7 + "," + signature("A"), "; SOA"},
		{"DO, signed, break_dnssec", Question{DO: true}, func(p *Policy) { p.BreakDNSSEC = true }, nodata + "," + signature("SOA"), a7 + "," + signature("A"), made7},
		{"DO, AAAA fails and A is signed", Question{DO: true}, nil, "SERVFAIL", a7 + "," + signature("A"), "SERVFAIL"},
		{"DO, AAAA never comes and A is signed", Question{DO: true}, nil, "", a7 + "," + signature("A"), "SERVFAIL"},
		{"DO, AAAA fails and A is signed, break_dnssec", Question{DO: true}, func(p *Policy) { p.BreakDNSSEC = true }, "SERVFAIL", a7 + "," + signature("A"), "600 AAAA 2001:db8:64::c633:6407"},
		{"DO, AAAA fails and A is unsigned", Question{DO: true}, nil, "SERVFAIL", a7, "600 AAAA 2001:db8:64::c633:6407"},
		{"AAAA fails and A is signed", Question{}, nil, "SERVFAIL", a7 + "," + signature("A"), "600 AAAA 2001:db8:64::c633:6407"},
		{"DO and CD", Question{DO: true, CD: true}, nil, nodata, a7, "; SOA"},
		{"DO and CD with an IPv4-mapped address", Question{DO: true, CD: true}, nil, mapped, a7, "77 AAAA ::ffff:192.0.2.9"},
		{"CD", Question{CD: true}, nil, nodata, a7, made7},
		{"translate_all", Question{}, all, real1, a7, "600 AAAA 2001:db8:64::c633:6407"},
		{"translate_all without A", Question{}, all, real1, nodata, "77 AAAA 2001:db8:f::1"},
		{"translate_all, A never comes", Question{}, all, real1, "", "77 AAAA 2001:db8:f::1"},
		{"translate_all for other names", Question{}, func(p *Policy) { p.TranslateAll = []string{"example.net."} }, real1, a7, "77 AAAA 2001:db8:f::1"},
		{"never", Question{}, never, nodata, a7, "; SOA"},
		{"never, an IPv4-mapped address", Question{}, never, mapped, a7, "77 AAAA ::ffff:192.0.2.9"},
		{"never and translate_all", Question{}, func(p *Policy) { all(p); never(p) }, real1, a7, "77 AAAA 2001:db8:f::1"},
		{"never for other names", Question{}, func(p *Policy) { p.Never = []string{"x.example.com.", "ample.com."} }, nodata, a7, made7},
		{"never at the end of a chain", Question{}, func(p *Policy) { p.Never = []string{"example.net."} },
			"h.example.com. 60 CNAME h.example.net." + nodata, "h.example.com. 60 CNAME h.example.net., h.example.net. 60 A 198.51.100.7", "60 CNAME h.example.net., ; SOA"},
		{"exclude any", Question{}, none, real1, a7, "600 AAAA 2001:db8:64::c633:6407"},
		{"exclude any without A", Question{}, none, real1, nodata, "; SOA"},
		{"a loop", Question{}, nil, nodata, "h.example.com. 5 CNAME i.example.com., i.example.com. 5 CNAME h.example.com.", "SERVFAIL"},
		{"an answer about another name", Question{}, nil, nodata, "x.example.com. 5 A 198.51.100.7", "; SOA"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := testPolicy(t)
			if row.set != nil {
				row.set(p)
			}
			q := row.q
			q.Name, q.Type, q.Class, q.RD = "h.example.com.", dns.TypeAAAA, dns.ClassINET, true
			aaaa, a := message(t, dns.TypeAAAA, row.aaaa), message(t, dns.TypeA, row.a)
			var m *dns.Msg
			if m = p.pass(q, aaaa); p.concerns(q) {
				m, _ = p.Synthesize(q, aaaa, a, 0)
			}
			if got := brief(m); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// The zone at the end of a chain decides whether addresses are synthesized for a validating client. The signatures of the chain
// are passed on to clients that want them.
func TestSignedCNAMEs(t *testing.T) {
	t.Parallel()
	cname, dname := signature("CNAME"), "example.com."+strings.Replace(sig, "%s", "DNAME", 1)
	const (
		link = "h.example.com. 60 CNAME h.example.net."
		tree = "example.com. 60 DNAME example.net."
		soa  = ";example.net. 300 SOA ns.example.net. root.example.net. 1 7200 900 1209600 300"
		nsec = ",h.example.net. 300 RRSIG NSEC 13 3 300 20300101000000 20200101000000 1 example.net. c2lnbmF0dXJl"
		end  = "h.example.net. 60 A 198.51.100.7"
		made = "h.example.net. 60 AAAA 2001:db8:64::c633:6407"
	)
	for _, row := range []struct {
		name    string
		do      bool
		aaaa, a string
		atEnd   bool // A was asked for at the end of the chain
		want    string
	}{
		{"a CNAME", true, link + "," + cname + soa, link + "," + cname + "," + end, false, link + "," + cname + "," + made},
		{"a CNAME, and A of its end", true, link + "," + cname + soa, end, true, link + "," + cname + "," + made},
		{"a DNAME", true, tree + "," + dname + "," + link + soa, end, true, tree + "," + dname + "," + link + "," + made},
		{"no DO", false, link + "," + cname + soa, link + "," + cname + "," + end, false, link + "," + made},
		{"a signed end", true, link + "," + cname + soa + nsec, end, true, link + "," + cname},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			q := in("h.example.com.", dns.TypeAAAA)
			q.DO = row.do
			a := message(t, dns.TypeA, row.a)
			if row.atEnd {
				a.Question[0].Name = "h.example.net."
			}
			m, _ := testPolicy(t).Synthesize(q, message(t, dns.TypeAAAA, row.aaaa), a, 0)
			if got, want := fmt.Sprint(m.Answer), fmt.Sprint(records(t, row.want)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// An IPv4 address is embedded in the prefix of its range, or in the chosen one.
func TestChoiceOfPrefix(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, testPrefix, "2001:db8:65::/96", "64:ff9b::/96")
	p.Ranges = []Range{{netip.MustParsePrefix("0.0.0.0/1"), 0}, {netip.MustParsePrefix("8.0.0.0/8"), 2}}
	for _, row := range []struct {
		choice Choice
		pick   int
		v4     [4]byte
		want   string
	}{
		{First, 0, [4]byte{198, 51, 100, 7}, "[2001:db8:64::c633:6407]"},
		{ClientHash, 1, [4]byte{198, 51, 100, 7}, "[2001:db8:65::c633:6407]"},
		{All, 0, [4]byte{198, 51, 100, 7}, "[2001:db8:64::c633:6407 2001:db8:65::c633:6407]"}, // not behind 64:ff9b::/96
		{All, 0, [4]byte{8, 8, 8, 8}, "[64:ff9b::808:808]"},
		{RoundRobin, 1, [4]byte{10, 8, 8, 8}, "[2001:db8:64::a08:808]"},
	} {
		p.Choice = row.choice
		got := "["
		for i, a := range p.embed(nil, row.v4, row.pick) {
			if i > 0 {
				got += " "
			}
			got += a.String()
		}
		if got += "]"; got != row.want {
			t.Errorf("%s, %v: got %s, want %s", row.choice, row.v4, got, row.want)
		}
	}
}

// Only questions about AAAA advance the choice.
func TestPick(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, testPrefix, "2001:db8:65::/96", "2001:db8:66::/96")
	address := func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}) }
	for _, row := range []struct {
		choice Choice
		check  func(picks []int, each map[int]int) bool
	}{
		{First, func(_ []int, each map[int]int) bool { return each[0] == 300 }},
		{All, func(_ []int, each map[int]int) bool { return each[0] == 300 }},
		{RoundRobin, func(picks []int, _ map[int]int) bool {
			return slices.Equal(picks[:4], []int{1, 2, 0, 1})
		}},
		{Random, func(picks []int, each map[int]int) bool {
			return min(each[0], each[1], each[2]) > 50 && !slices.Equal(picks[:20], picks[20:40])
		}},
		{ClientHash, func(picks []int, each map[int]int) bool {
			return min(each[0], each[1], each[2]) > 50 && slices.Equal(picks[:8], []int{0, 0, 1, 1, 1, 2, 2, 1}) // as in every process
		}},
	} {
		p.Choice = row.choice
		var turn atomic.Uint64
		var picks []int
		each := map[int]int{}
		for i := range 300 {
			picks = append(picks, p.pick(address(i), dns.TypeAAAA, dns.ClassINET, &turn))
			each[picks[i]]++
			if n := p.pick(address(i), dns.TypeA, dns.ClassINET, &turn) + p.pick(address(i), dns.TypeAAAA, dns.ClassCHAOS, &turn); n != 0 {
				t.Errorf("%s: a prefix is chosen where there is nothing to choose", row.choice)
			}
		}
		if !row.check(picks, each) {
			t.Errorf("%s: got %v, in all %v", row.choice, picks[:20], each)
		}
	}
}

func TestSuffixStandsBehindTheAddress(t *testing.T) {
	t.Parallel()
	p := testPolicy(t, "2001:db8:122:344::/64", "64:ff9b::/96")
	p.Suffix = netip.MustParseAddr("::12:3456")
	for i, want := range []string{"2001:db8:122:344:8:808:812:3456", "64:ff9b::808:808"} {
		if got := p.embed(nil, [4]byte{8, 8, 8, 8}, i)[0].String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// For any two answers, the result can be packed, has no AD bit, and has no signatures of synthesized records.
func FuzzSynthesize(f *testing.F) {
	for _, v := range vectors(f) {
		var sent [2][]byte
		for i, u := range v.Upstream[:min(2, len(v.Upstream))] {
			sent[i] = []byte(u.Response)
			if u.Response != "" {
				sent[i], _ = unpack(f, u.Response).Pack()
			}
		}
		f.Add(sent[0], sent[1], v.Query.DO, v.Query.CD, false)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, do, cd, all bool) {
		p := testPolicy(t, testPrefix, "2001:db8:65::/96")
		p.Choice, p.BreakDNSSEC = All, all
		q := Question{Name: "h.example.com.", Type: dns.TypeAAAA, Class: dns.ClassINET, DO: do, CD: cd, RD: true}
		var ms [2]*dns.Msg
		for i, b := range [][]byte{first, second} {
			if m := new(dns.Msg); m.Unpack(b) == nil {
				ms[i] = m
			}
		}
		if !p.concerns(q) {
			return
		}
		m, made := p.Synthesize(q, ms[0], ms[1], 0)
		if made && (m.AuthenticatedData || signed(m, dns.TypeAAAA)) {
			t.Errorf("made-up records are vouched for: %v", m)
		}
		for _, rr := range m.Answer {
			if r, is := rr.(*dns.AAAA); is && len(r.AAAA) == 16 && mappedAddresses.Contains(address(r.AAAA)) {
				t.Errorf("an excluded address is returned: %v", rr)
			}
		}
		if made {
			if _, err := m.Pack(); err != nil {
				t.Errorf("%v: %v", err, m)
			}
		}
	})
}
