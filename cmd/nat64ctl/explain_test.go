package main_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

// Explain returns the same steps for each question, and what the question leaves open.
func (fake) Explain(q control.Question) (control.Explanation, error) {
	x := control.Explanation{Verdict: control.Verdict{
		Verdict: "forwarded", Direction: "6to4", Protocol: q.Protocol,
		Steps: []control.Step{
			{Step: "received", Text: "tcp …, SYN", RFC: "RFC 8200 section 3"},
			{Step: "end", Text: "forwarded: 10.0.2.15:7042 → 198.51.100.7:443, next hop 10.0.2.2 (02:00:00:00:00:09) on eth1, MTU 1500"},
		},
	}}
	if q.SourcePort == nil {
		x.Assumed = []string{"source port 50000"}
	}
	x.Via, x.Interface, x.Expires = netip.MustParseAddr("10.0.2.2"), "eth1", control.Seconds(4*time.Minute)
	if q.Size == 9000 {
		x.Ends = []control.Session{{Protocol: "tcp", Client: client, Mapped: mapped, Peer: netip.MustParseAddrPort("198.51.100.9:1")}}
	}
	return x, nil
}

func TestExplainOutput(t *testing.T) {
	t.Parallel()
	const end = "forwarded: 10.0.2.15:7042 → 198.51.100.7:443, next hop 10.0.2.2 (02:00:00:00:00:09) on eth1, MTU 1500\n"
	for args, want := range map[string]string{
		"explain tcp 2001:db8::8 198.51.100.7 443": "  assumed     source port 50000\n  received    tcp …, SYN  [RFC 8200 section 3]\n" + end,
		"explain tcp 2001:db8::8 37878 198.51.100.7 443 --size 9000": "  received    tcp …, SYN  [RFC 8200 section 3]\n" +
			"  ends        session tcp [2001:db8::8]:37878 → 10.0.2.15:7042 → 198.51.100.9:1, to make room\n" + end,
		"explain TCP 2001:db8::8 37878 198.51.100.7 443 -o csv": "step,text,rfc\nreceived,\"tcp …, SYN\",RFC 8200 section 3\nend,\"" + strings.TrimSuffix(end, "\n") + "\",\n",
	} {
		if out, errs, code := call(t, full, strings.Fields(args)...); out != want || code != 0 {
			t.Errorf("%s: exit code %d, stderr %q, stdout\n%swant\n%s", args, code, errs, out, want)
		}
	}
	out, _, _ := call(t, full, "explain", "icmp", "2001:db8::8", "198.51.100.7", "-o", "json")
	for _, want := range []string{`"verdict": "forwarded"`, `"via": "10.0.2.2"`, `"expires_seconds": 240`, `"assumed": [`, `"rfc": "RFC 8200 section 3"`} {
		if !strings.Contains(out, want) {
			t.Errorf("the JSON lacks %s:\n%s", want, out)
		}
	}
}

// Each mistake gets an answer with what would be right.
func TestExplainRefusesMistakes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"":                                           {2, "PROTOCOL, SOURCE and DESTINATION are missing"},
		"tcp 2001:db8::8":                            {2, "DESTINATION is missing"},
		"tcp 2001:db8::8 5000":                       {2, "DESTINATION is missing"},
		"tcp 2001:db8::8 1 192.0.2.1 2 3":            {2, `"3" is one argument too many`},
		"tcp 2001:db8::8 192.0.2.1 2 3":              {2, `"3" is one argument too many`},
		"tcp 2001:db8::8 192.0.2.1":                  {1, "write it behind the destination"},
		"sctp 2001:db8::8 192.0.2.1 80":              {1, "use tcp, udp or icmp"},
		"tcp www.example.net 192.0.2.1 80":           {1, "names are not resolved"},
		"tcp 2001:db8::8 www.example.net 80":         {1, "names are not resolved"},
		"tcp [2001:db8::8]:5000 192.0.2.1 80":        {1, "write 2001:db8::8 5000"},
		"tcp 2001:db8::8 192.0.2.1:80":               {1, "write 192.0.2.1 80"},
		"tcp 2001:db8::/64 192.0.2.1 80":             {1, "use one address"},
		"tcp fe80::1%eth0 192.0.2.1 80":              {1, "leave the zone out"},
		"tcp ::ffff:192.0.2.9 192.0.2.1 80":          {1, "write 192.0.2.9"},
		"tcp 192.0.2.9 64:ff9b::c000:201 80":         {1, "nat64ctl session list"},
		"tcp 2001:db8::8 70000 192.0.2.1 80":         {1, "use a number from 1 to 65535"},
		"tcp 2001:db8::8 192.0.2.1 http":             {1, "use a number from 1 to 65535"},
		"tcp 2001:db8::8 0 192.0.2.1 80":             {1, "use a port from 1 to 65535"},
		"icmp 2001:db8::8 1 192.0.2.1 2":             {1, "one Identifier"},
		"udp 2001:db8::8 192.0.2.1 53 --flags syn":   {1, "only tcp has"},
		"tcp 2001:db8::8 192.0.2.1 80 --flags xmas":  {1, "use syn, syn-ack, ack, fin, rst"},
		"tcp 2001:db8::8 192.0.2.1 80 --reply":       {1, "only icmp has"},
		"tcp 2001:db8::8 192.0.2.1 80 --df":          {1, "leave df out"},
		"tcp 2001:db8::8 192.0.2.1 80 --size 70000":  {1, "use a number from 1 to 65535"},
		"tcp 2001:db8::8 192.0.2.1 80 --hop-limit 0": {1, "use a number from 1 to 255"},
	} {
		out, errs, code := call(t, full, append([]string{"explain"}, strings.Fields(args)...)...)
		if code != want.code || out != "" || !strings.Contains(errs, want.text) {
			t.Errorf("explain %s: exit code %d, stdout %q, stderr %q; want %d and %q", args, code, out, errs, want.code, want.text)
		}
	}
}
