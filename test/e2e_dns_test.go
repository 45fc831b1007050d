package test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// A zone with a record set that is too large for UDP.
const (
	zone = `$TTL 60
@	SOA	ns.example.net. root.example.net. 1 3600 600 86400 60
@	NS	ns.example.net.
ns	A	192.0.2.2
www	A	203.0.113.80
`
	namedConf = `options {
	directory "DIR"; pid-file "DIR/named.pid"; session-keyfile "DIR/session.key"; managed-keys-directory "DIR";
	listen-on port 53 { 192.0.2.2; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no;
};
controls { };
zone "example.net" { type primary; file "DIR/example.net"; };
`
)

// checkDNS queries a real name server over UDP and TCP.
func checkDNS(t *testing.T, l *lab.Lab) {
	serveDNS(t, l)
	dig, _ := tool(t, "dig")
	ask := func(t *testing.T, args ...string) string {
		t.Helper()
		args = append([]string{"@" + lab.Server4As6, "+time=2", "+tries=3"}, args...)
		out, err := l.Client.Output(limit(t, 20*time.Second), dig, args...)
		if err != nil {
			t.Errorf("dig %v: %v: %s", args, err, out)
		}
		return out
	}
	for _, transport := range []string{"+notcp", "+tcp"} {
		if got := ask(t, transport, "+short", "www.example.net", "A"); got != "203.0.113.80\n" {
			t.Errorf("%s: got %q", transport, got)
		}
	}
	if got := ask(t, "big.example.net", "TXT"); !strings.Contains(got, "retrying in TCP mode") || strings.Count(got, "\tTXT\t") != bigRecords {
		t.Errorf("want a truncated answer over UDP and then %d records over TCP, got:\n%s", bigRecords, got)
	}
}

const bigRecords = 40

// serveDNS runs BIND on the IPv4-only host and waits until it answers there.
func serveDNS(t *testing.T, l *lab.Lab) {
	t.Helper()
	dir := t.TempDir()
	records := zone
	for i := range bigRecords {
		records += "big\tTXT\t\"" + strings.Repeat(string(rune('a'+i%26)), 200-i) + "\"\n"
	}
	for name, text := range map[string]string{"named.conf": strings.ReplaceAll(namedConf, "DIR", dir), "example.net": records} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, l.Server, "named", "-g", "-n", "1", "-c", filepath.Join(dir, "named.conf"))
	dig, _ := tool(t, "dig")
	eventually(t, 20*time.Second, "named answers on its own host", func() error {
		out, err := l.Server.Output(limit(t, 5*time.Second), dig, "@"+lab.Server4, "+time=1", "+tries=1", "+short", "www.example.net")
		if err == nil && out != "203.0.113.80\n" {
			return errors.New(out)
		}
		return err
	})
}
