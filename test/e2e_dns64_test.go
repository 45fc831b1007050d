package test

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nat64d/lab"
)

// The names of these tests. A name aaaa-x.example.net has an A record; x says how questions for its AAAA record are
// answered.
const (
	names64 = `$TTL 60
@	SOA	ns.example.net. root.example.net. 1 3600 600 86400 60
@	NS	ns.example.net.
ns	A	192.0.2.2
v4	1000	A	192.0.2.2
both	A	203.0.113.81
both	AAAA	2001:db8:f::81
v6	AAAA	2001:db8:f::84
mapped	AAAA	::ffff:192.0.2.9
mapped	A	203.0.113.82
mixed	AAAA	::ffff:192.0.2.9
mixed	AAAA	2001:db8:f::83
mixed	A	203.0.113.83
only	AAAA	::ffff:192.0.2.9
inside	AAAA	64:ff9b::1
inside	A	203.0.113.84
c1	CNAME	v4
c2	CNAME	c1
c3	CNAME	missing
old	DNAME	new
h.new	A	203.0.113.85
x.ent	A	203.0.113.86
text	TXT	"a text"
web	HTTPS	1 . alpn=h2 ipv4hint=203.0.113.88 ipv6hint=2001:db8:f::88
private	A	10.0.0.5
loop	A	127.0.0.1
loop	A	203.0.113.87
local	A	127.0.0.1
*.lie	A	203.0.113.88
*.long.lie	1000	A	203.0.113.88
`
	signed64 = `$TTL 60
@	SOA	ns.signed.example. root.signed.example. 1 3600 600 86400 60
@	NS	ns.signed.example.
ns	A	192.0.2.2
v4	A	203.0.113.89
mapped	AAAA	::ffff:192.0.2.9
mapped	A	203.0.113.90
out	CNAME	v4.example.net.
`
	reverse64 = `$TTL 60
@	SOA	ns.example.net. root.example.net. 1 3600 600 86400 60
@	NS	ns.example.net.
2	PTR	v4.example.net.
`
	zones64 = `zone "signed.example" { type primary; file "DIR/signed.example"; dnssec-policy default; inline-signing yes; };
zone "2.0.192.in-addr.arpa" { type primary; file "DIR/reverse"; };
zone "ip6.arpa" { type primary; file "DIR/ip6"; };
`
	liar   = lab.Server4 + ":5300" // the upstream of both DNS64s: named, except for the errors that it injects
	oracle = "5353"                // the port of BIND's DNS64; that of nat64d has the default port
)

// serveNames64 runs named and, in front of it, a proxy that injects errors.
func serveNames64(t *testing.T, l *lab.Lab) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"named.conf": strings.ReplaceAll(namedConf+zones64, "DIR", dir), "example.net": names64, "signed.example": signed64, "reverse": reverse64, "ip6": reverse64,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, l.Server, "named", "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	packets, err := l.Server.ListenPacket("udp", liar)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := l.Server.Listen("tcp", liar)
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { lieOrAsk(t, l, w, q) })
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	dig, _ := tool(t, "dig")
	eventually(t, 20*time.Second, "named answers, and has signed its zone", func() error {
		out, err := l.Server.Output(limit(t, 5*time.Second), dig, "@"+lab.Server4, "+time=1", "+tries=1", "+dnssec", "v4.signed.example", "AAAA")
		if err == nil && !strings.Contains(out, "RRSIG\tNSEC") {
			return errors.New(out)
		}
		return err
	})
}

// lieOrAsk answers a question for AAAA of aaaa-x.lie.example.net with the error x, or not at all, and forwards other
// questions.
func lieOrAsk(t *testing.T, l *lab.Lab, w dns.ResponseWriter, q *dns.Msg) {
	first, _, _ := strings.Cut(strings.ToLower(q.Question[0].Name), ".")
	if lie, ok := strings.CutPrefix(first, "aaaa-"); ok && q.Question[0].Qtype == dns.TypeAAAA {
		if rcode, known := dns.StringToRcode[strings.ToUpper(lie)]; known {
			_ = w.WriteMsg(new(dns.Msg).SetRcode(q, rcode))
		}
		return // the others time out
	}
	network := w.RemoteAddr().Network()
	c, err := l.Server.Dial(t.Context(), network, net.JoinHostPort(lab.Server4, "53"))
	if err != nil {
		return
	}
	defer c.Close()
	conn := &dns.Conn{Conn: c, UDPSize: 4096}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if conn.WriteMsg(q) == nil {
		if m, err := conn.ReadMsg(); err == nil {
			_ = w.WriteMsg(m)
		}
	}
}

// serveOracle runs BIND as a DNS64 with the configuration that nat64ctl prints.
func serveOracle(t *testing.T, l *lab.Lab, g *daemon) {
	t.Helper()
	dir := t.TempDir()
	conf := strings.ReplaceAll(`options {
	directory "DIR"; pid-file "DIR/named.pid"; session-keyfile "DIR/session.key"; managed-keys-directory "DIR";
	listen-on { none; }; listen-on-v6 port `+oracle+` { any; };
	recursion yes; allow-query { any; }; allow-recursion { any; }; dnssec-validation no; disable-empty-zone "2.0.192.in-addr.arpa";
	forward only; forwarders { `+lab.Server4+` port 5300; };
`, "DIR", dir) + g.must("dns64", "snippet", "bind") + "};\ncontrols { };\n"
	path := filepath.Join(dir, "named.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, l.Gateway, "named", "-g", "-n", "1", "-c", path)
	eventually(t, 20*time.Second, "BIND's DNS64 answers", func() error {
		got := ask64(t, l.Client, "@"+lab.Gateway6, "-p", oracle, "v4.example.net", "AAAA")
		if !strings.HasPrefix(got, "NOERROR") {
			return errors.New(got)
		}
		return nil
	})
}

var (
	digStatus = regexp.MustCompile(`status: (\w+),`)
	digFlags  = regexp.MustCompile(`flags: ([a-z ]*);`)
	digRecord = regexp.MustCompile(`(?m)^([^;\s]\S*)\s+(\d+)\s+(?:IN|CH)\s+(\S+)\s+(.*)$`)
)

// ask64 runs dig and returns the answer as one line: status, AD, missing RA, and records. Records of one type are
// sorted, because servers may rotate them. A TTL other than zero means the longest TTL of the AAAA records.
func ask64(t *testing.T, from *lab.Namespace, args ...string) string {
	t.Helper()
	got, _ := ask64TTL(t, from, args...)
	return got
}

func ask64TTL(t *testing.T, from *lab.Namespace, args ...string) (answer, ttl string) {
	t.Helper()
	dig, _ := tool(t, "dig")
	args = append([]string{"+noall", "+comments", "+answer", "+time=7", "+tries=1", "+nocookie"}, args...)
	out, _ := from.Output(limit(t, 20*time.Second), dig, args...)
	status := digStatus.FindStringSubmatch(out)
	if status == nil {
		return "no answer", ""
	}
	words := []string{status[1]}
	flags := strings.Fields(digFlags.FindStringSubmatch(out)[1])
	if slices.Contains(flags, "ad") {
		words = append(words, "ad")
	}
	if !slices.Contains(flags, "ra") {
		words = append(words, "no-ra")
	}
	var records []string
	for _, m := range digRecord.FindAllStringSubmatch(out, -1) {
		if m[3] == "AAAA" {
			ttl = m[2]
		}
		if m[3] == "RRSIG" {
			m[4], _, _ = strings.Cut(m[4], " ") // the type that it covers; the rest is not predictable
		}
		short := func(s string) string {
			s = strings.TrimSuffix(strings.TrimSuffix(s, "."), ".example.net")
			return regexp.MustCompile(`([0-9a-f]\.){31}[0-9a-f]\.ip6\.arpa`).ReplaceAllString(s, "ip6")
		}
		records = append(records, short(m[1])+" "+m[3]+" "+short(m[4]))
	}
	slices.SortStableFunc(records, func(a, b string) int {
		if slices.ContainsFunc([]string{a, b}, func(s string) bool { return strings.Contains(s, " CNAME ") || strings.Contains(s, " DNAME ") }) {
			return 0
		}
		return cmp.Compare(a, b)
	})
	return strings.Join(append(words, records...), "; "), ttl
}

// DNS64 answers as in RFC 6147 and as other servers in all known cases, over real sockets, with dig and a real name
// server. BIND's DNS64 gets the same questions, and must agree where expected.
func TestDNS64(t *testing.T) {
	l := network(t, lab.Options{})
	serveNames64(t, l)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: %s, ports: 7000-8000 } ]
dns64:
  enabled: true
  listen: ["[%s]:53", "%s:53"]
  upstreams: ["%s"]
  clients: [2001:db8:1::/64, 192.0.2.0/24]
`, lab.Gateway4, lab.Gateway6, lab.Gateway4, liar))
	serveOracle(t, l, g)
	const disagrees, agrees = false, true
	reverse, _ := dns.ReverseAddr(lab.Server4As6)
	for _, row := range []struct {
		name, question string
		want           string
		bind           bool // BIND gives the same answer
	}{
		{"A only", "v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202", agrees},
		{"A and AAAA", "both.example.net AAAA", "NOERROR; both AAAA 2001:db8:f::81", agrees},
		{"AAAA only", "v6.example.net AAAA", "NOERROR; v6 AAAA 2001:db8:f::84", agrees},
		{"only an IPv4-mapped address, and A", "mapped.example.net AAAA", "NOERROR; mapped AAAA 64:ff9b::cb00:7152", agrees},
		{"an IPv4-mapped address and a real one", "mixed.example.net AAAA", "NOERROR; mixed AAAA 2001:db8:f::83", agrees},
		{"only an IPv4-mapped address", "only.example.net AAAA", "NOERROR", agrees},
		{"an address in the prefix", "inside.example.net AAAA", "NOERROR; inside AAAA 64:ff9b::1", agrees},
		{"a CNAME", "c1.example.net AAAA", "NOERROR; c1 CNAME v4; v4 AAAA 64:ff9b::c000:202", agrees},
		{"two CNAMEs", "c2.example.net AAAA", "NOERROR; c2 CNAME c1; c1 CNAME v4; v4 AAAA 64:ff9b::c000:202", agrees},
		{"a CNAME to nothing", "c3.example.net AAAA", "NXDOMAIN; c3 CNAME missing", agrees},
		{"a DNAME", "h.old.example.net AAAA", "NOERROR; old DNAME new; h.old CNAME h.new; h.new AAAA 64:ff9b::cb00:7155", agrees},
		{"no such name", "nothing.example.net AAAA", "NXDOMAIN", agrees},
		{"an empty non-terminal", "ent.example.net AAAA", "NOERROR", agrees},
		{"TXT only", "text.example.net AAAA", "NOERROR", agrees},
		{"a private address", "private.example.net AAAA", "NOERROR; private AAAA 64:ff9b::a00:5", agrees},
		{"loopback and another address", "loop.example.net AAAA", "NOERROR; loop AAAA 64:ff9b::cb00:7157", agrees},
		{"loopback alone", "local.example.net AAAA", "NOERROR", agrees},
		{"AAAA fails", "aaaa-servfail.lie.example.net AAAA", "NOERROR; aaaa-servfail.lie AAAA 64:ff9b::cb00:7158", disagrees},
		{"AAAA refused", "aaaa-refused.lie.example.net AAAA", "NOERROR; aaaa-refused.lie AAAA 64:ff9b::cb00:7158", disagrees},
		{"AAAA not implemented", "aaaa-notimp.lie.example.net AAAA", "NOERROR; aaaa-notimp.lie AAAA 64:ff9b::cb00:7158", disagrees},
		{"AAAA a format error", "aaaa-formerr.lie.example.net AAAA", "NOERROR; aaaa-formerr.lie AAAA 64:ff9b::cb00:7158", disagrees},
		{"AAAA times out", "aaaa-timeout.lie.example.net AAAA", "NOERROR; aaaa-timeout.lie AAAA 64:ff9b::cb00:7158", disagrees},
		{"AAAA does not exist, without SOA", "aaaa-nxdomain.lie.example.net AAAA", "NXDOMAIN", disagrees}, // BIND fails without SOA
		{"DO in a signed zone", "+dnssec v4.signed.example AAAA", "NOERROR", agrees},
		{"DO in a signed zone, only an IPv4-mapped address", "+dnssec mapped.signed.example AAAA", "NOERROR", disagrees},
		{"DO, a signed CNAME to where nothing is signed", "+dnssec out.signed.example AAAA",
			"NOERROR; out.signed.example CNAME v4; out.signed.example RRSIG CNAME; v4 AAAA 64:ff9b::c000:202", agrees},
		{"DO and CD in a signed zone", "+dnssec +cdflag v4.signed.example AAAA", "NOERROR", agrees},
		{"DO and CD where nothing is signed", "+dnssec +cdflag v4.example.net AAAA", "NOERROR", disagrees},
		{"DO where nothing is signed", "+dnssec v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202", agrees},
		{"CD", "+cdflag v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202", agrees},
		{"AD", "+adflag v4.signed.example AAAA", "NOERROR; v4.signed.example AAAA 64:ff9b::cb00:7159", agrees},
		{"no RD", "+norecurse v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202", disagrees},
		{"A", "both.example.net A", "NOERROR; both A 203.0.113.81", agrees},
		{"ANY", "+notcp v4.example.net ANY", "NOERROR; v4 A 192.0.2.2", disagrees},
		{"over TCP", "+tcp v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202", agrees},
		{"in capitals", "V4.eXample.net AAAA", "NOERROR; V4.eXample.net AAAA 64:ff9b::c000:202", disagrees}, // differs only in case
		{"PTR in the prefix", reverse + " PTR", "NOERROR; ip6 CNAME 2.2.0.192.in-addr.arpa; 2.2.0.192.in-addr.arpa PTR v4", agrees},
		{"PTR of part of an address in the prefix", strings.TrimPrefix(reverse, "2.0.") + " PTR", "NOERROR", disagrees},
		{"designated resolvers", "_DNS.resolver.arpa TYPE64", "NOERROR", disagrees},                                                                  // BIND as a forwarder asks for them
		{"ipv4only.arpa AAAA", "ipv4only.arpa AAAA", "NOERROR; ipv4only.arpa AAAA 64:ff9b::c000:aa; ipv4only.arpa AAAA 64:ff9b::c000:ab", disagrees}, // BIND as a forwarder asks for it
		{"ipv4only.arpa A", "ipv4only.arpa A", "NOERROR; ipv4only.arpa A 192.0.0.170; ipv4only.arpa A 192.0.0.171", disagrees},
		{"class CH", "-c CH v4.example.net AAAA", "REFUSED", disagrees}, // BIND without RA
	} {
		t.Run(row.name, func(t *testing.T) {
			args := strings.Fields(row.question)
			if got := ask64(t, l.Client, append([]string{"@" + lab.Gateway6}, args...)...); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			if !row.bind {
				return
			}
			if got := ask64(t, l.Client, append([]string{"@" + lab.Gateway6, "-p", oracle}, args...)...); got != row.want {
				t.Errorf("BIND got %s\nwant     %s", got, row.want)
			}
		})
	}
	t.Run("over IPv4", func(t *testing.T) {
		if got, want := ask64(t, l.Server, "@"+lab.Gateway4, "v4.example.net", "AAAA"), "NOERROR; v4 AAAA 64:ff9b::c000:202"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("the host itself", func(t *testing.T) { // no client
		for _, row := range [][]string{{"@" + lab.Gateway4}, {"+tcp", "@" + lab.Gateway4}, {"@" + lab.Gateway6}} {
			g.must("config", "set", "dns64.clients", "2001:db8:77::/64")
			if got, want := ask64(t, l.Gateway, append(row, "v4.example.net", "AAAA")...), "NOERROR; v4 AAAA 64:ff9b::c000:202"; got != want {
				t.Errorf("%q: got %s, want %s", row, got, want)
			}
		}
		if got := ask64(t, l.Client, "@"+lab.Gateway6, "v4.example.net", "AAAA"); got != "REFUSED" {
			t.Errorf("another host got %s", got)
		}
		g.must("config", "set", "dns64.clients", "2001:db8:1::/64,192.0.2.0/24")
	})
	t.Run("TTL", func(t *testing.T) { checkTTL64(t, g) })
	t.Run("changes", func(t *testing.T) { checkChanges64(t, g) })
	t.Run("by name", func(t *testing.T) { checkByName(t, g) })
	t.Run("shown", func(t *testing.T) { checkShown64(t, g) })
	g.stop()
}

// checkTTL64 expects the lesser of the TTLs of the SOA and of the A record, and the TTL that is assumed while AAAA
// fails.
func checkTTL64(t *testing.T, g *daemon) {
	g.must("dns64", "cache", "flush")
	for name, want := range map[string]string{"v4": "60", "aaaa-refused.lie": "5", "aaaa-refused.long.lie": "5"} {
		if _, ttl := ask64TTL(t, g.lab.Client, "@"+lab.Gateway6, name+".example.net", "AAAA"); ttl != want {
			t.Errorf("%s: the TTL is %s, want %s", name, ttl, want)
		}
	}
}

// checkChanges64 changes settings while nat64d runs.
func checkChanges64(t *testing.T, g *daemon) {
	expect := func(name, want string) {
		t.Helper()
		if got := ask64(t, g.lab.Client, "@"+lab.Gateway6, name+".example.net", "AAAA"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	g.must("config", "set", "dns64.translate_all", "true")
	expect("both", "NOERROR; both AAAA 64:ff9b::cb00:7151")
	expect("v6", "NOERROR; v6 AAAA 2001:db8:f::84")
	g.must("config", "set", "dns64.translate_all", "false")
	g.must("config", "set", "dns64.exclude", "any")
	expect("both", "NOERROR; both AAAA 64:ff9b::cb00:7151")
	expect("v6", "NOERROR")
	g.must("config", "set", "dns64.exclude", "::ffff:0:0/96")
	expect("both", "NOERROR; both AAAA 2001:db8:f::81")
	g.must("config", "set", "dns64.on_aaaa_error", "servfail")
	expect("aaaa-refused.lie", "SERVFAIL")
	g.must("config", "set", "dns64.on_aaaa_error", "synthesize")
	expect("aaaa-refused.lie", "NOERROR; aaaa-refused.lie AAAA 64:ff9b::cb00:7158")
	g.must("config", "set", "dns64.recursive_only", "true")
	expect("v4", "NOERROR; v4 AAAA 64:ff9b::c000:202")
	if got := ask64(t, g.lab.Client, "+norecurse", "@"+lab.Gateway6, "v4.example.net", "AAAA"); got != "NOERROR" {
		t.Errorf("without RD: got %s", got)
	}
	g.must("config", "set", "dns64.recursive_only", "false")
	signed := func(want string) {
		t.Helper()
		if got := ask64(t, g.lab.Client, "+dnssec", "@"+lab.Gateway6, "v4.signed.example", "AAAA"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	g.must("config", "set", "dns64.break_dnssec", "true")
	signed("NOERROR; v4.signed.example AAAA 64:ff9b::cb00:7159")
	g.must("config", "set", "dns64.break_dnssec", "false")
	signed("NOERROR")
	checkFilters64(t, g)
	checkZones64(t, g)
	g.must("pool6", "add", "2001:db8:64::/96")
	g.must("config", "set", "dns64.prefix_policy", "all")
	expect("v4", "NOERROR; v4 AAAA 2001:db8:64::c000:202; v4 AAAA 64:ff9b::c000:202")
	g.must("pool6", "remove", "2001:db8:64::/96")
	expect("v4", "NOERROR; v4 AAAA 64:ff9b::c000:202")
	g.must("config", "set", "dns64.clients", "2001:db8:77::/64")
	expect("v4", "REFUSED")
	g.must("config", "set", "dns64.clients", "") // the networks routed through the v6 interface
	expect("v4", "NOERROR; v4 AAAA 64:ff9b::c000:202")
}

// checkFilters64 answers A empty, and never synthesizes in some domains.
func checkFilters64(t *testing.T, g *daemon) {
	expect := func(question, want string) {
		t.Helper()
		if got := ask64(t, g.lab.Client, append([]string{"@" + lab.Gateway6}, strings.Fields(question)...)...); got != want {
			t.Errorf("%s: got %s, want %s", question, got, want)
		}
	}
	expect("web.example.net HTTPS", `NOERROR; web HTTPS 1 . alpn="h2" ipv4hint=203.0.113.88 ipv6hint=2001:db8:f::88`)
	g.must("config", "set", "dns64.a_records", "empty")
	expect("v4.example.net A", "NOERROR")
	expect("both.example.net A", "NOERROR")
	expect("c1.example.net A", "NOERROR; c1 CNAME v4")
	expect("nothing.example.net A", "NXDOMAIN")
	expect("local.example.net A", "NOERROR; local A 127.0.0.1")
	expect("loop.example.net A", "NOERROR; loop A 127.0.0.1")
	expect("web.example.net HTTPS", `NOERROR; web HTTPS 1 . alpn="h2" ipv6hint=2001:db8:f::88`)
	expect("+dnssec v4.signed.example A", "NOERROR; v4.signed.example A 203.0.113.89; v4.signed.example RRSIG A")
	expect("v4.example.net AAAA", "NOERROR; v4 AAAA 64:ff9b::c000:202")
	expect("ipv4only.arpa A", "NOERROR; ipv4only.arpa A 192.0.0.170; ipv4only.arpa A 192.0.0.171")
	dig, _ := tool(t, "dig")
	if out, err := g.lab.Client.Output(limit(t, 10*time.Second), dig, "@"+lab.Gateway6, "v4.example.net", "A"); err != nil || !strings.Contains(out, "IN\tSOA\tns.example.net.") {
		t.Errorf("an empty answer has no SOA: %v: %s", err, out)
	}
	g.must("config", "set", "dns64.never_synthesize", "lie.example.net,signed.example")
	expect("x.lie.example.net A", "NOERROR; x.lie A 203.0.113.88")
	expect("x.lie.example.net AAAA", "NOERROR")
	expect("both.example.net A", "NOERROR")
	g.must("config", "set", "dns64.never_synthesize", "")
	g.must("config", "set", "dns64.a_records", "pass")
	expect("v4.example.net A", "NOERROR; v4 A 192.0.2.2")
	expect("x.lie.example.net AAAA", "NOERROR; x.lie AAAA 64:ff9b::cb00:7158")
	if _, errs, code := g.ctl("config", "set", "dns64.a_records", "none"); code != 1 || !strings.Contains(errs, "must be one of pass, empty") {
		t.Errorf("code %d, %s", code, errs)
	}
}

// checkZones64 gives a domain another upstream, which has the same names with other addresses.
func checkZones64(t *testing.T, g *daemon) {
	c, err := g.lab.Server.ListenPacket("udp", lab.Server4+":5301")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if h := q.Question[0]; h.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: h.Name, Rrtype: h.Qtype, Class: 1, Ttl: 60}, A: net.IPv4(198, 51, 100, 7)}}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = s.ActivateAndServe() }()
	defer func() { _ = s.Shutdown() }()
	expect := func(name, want string) {
		t.Helper()
		if got := ask64(t, g.lab.Client, "@"+lab.Gateway6, name+".example.net", "AAAA"); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	expect("x.lie", "NOERROR; x.lie AAAA 64:ff9b::cb00:7158")
	g.must("config", "set", "dns64.zones", "lie.example.net="+lab.Server4+":5301")
	expect("x.lie", "NOERROR; x.lie AAAA 64:ff9b::c633:6407")
	expect("v4", "NOERROR; v4 AAAA 64:ff9b::c000:202")
	if got := g.must("dns64", "status"); !strings.Contains(got, lab.Server4+":5301 for lie.example.net, up") {
		t.Errorf("the status does not show the zone:\n%s", got)
	}
	if _, errs, code := g.ctl("config", "set", "dns64.zones", "lie.example.net"); code != 1 || !strings.Contains(errs, "a domain and its resolver") {
		t.Errorf("code %d, %s", code, errs)
	}
	g.must("config", "set", "dns64.zones", "")
	expect("x.lie", "NOERROR; x.lie AAAA 64:ff9b::cb00:7158")
}

// checkByName downloads by name from an IPv4-only host on an IPv6-only host that uses only DNS64 as its resolver.
func checkByName(t *testing.T, g *daemon) {
	stop, err := g.lab.Server.ServeHTTP(lab.Server4 + ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	if out, err := downloadByName(t, g.lab, lab.Gateway6); err != nil || out != lab.Server4As6+" 200" {
		t.Errorf("got %q, %v", out, err)
	}
}

// downloadByName downloads from v4.example.net on the client, which uses only the given resolver, and returns the address of the
// server and the status.
func downloadByName(t *testing.T, l *lab.Lab, resolver string) (string, error) {
	t.Helper()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+resolver+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	curl, _ := tool(t, "curl")
	return l.Client.Output(limit(t, 20*time.Second), "unshare", "--mount", "sh", "-c",
		`mount --bind "$1" /etc/resolv.conf && exec "$2" -sS -m 10 -o /dev/null -w '%{remote_ip} %{http_code}' http://v4.example.net/stream/1000000`, "sh", resolv, curl)
}

// checkShown64 checks the output of nat64ctl.
func checkShown64(t *testing.T, g *daemon) {
	for command, want := range map[string]string{
		"dns64 status":                 "192.0.2.2:5300, up",
		"dns64 cache list":             "v4.example.net.",
		"dns64 query v4.example.net":   "64:ff9b::c000:202",
		"dns64 snippet unbound":        "dns64-prefix: 64:ff9b::/96",
		"dns64 query both.example.net": "2001:db8:f::81",
		"stats":                        `nat64_dns64_queries_total{result="NOERROR",type="AAAA"}`,
		"stats --all":                  `nat64_dns64_upstream_duration_seconds_bucket{le="+Inf",upstream="192.0.2.2:5300"}`,
	} {
		if got := g.must(strings.Fields(command)...); !strings.Contains(got, want) {
			t.Errorf("nat64ctl %s does not show %s:\n%s", command, want, got)
		}
	}
	if _, errs, code := g.ctl("dns64", "query", "x..y"); code != 1 || !strings.Contains(errs, "is not a name") {
		t.Errorf("code %d, %s", code, errs)
	}
}
