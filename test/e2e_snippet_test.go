package test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// otherServer is a server that nat64d has a snippet for, and the rest of its configuration.
type otherServer struct {
	check, run []string // commands; the file is appended
	conf       string   // with placeholders DIR, PORT and SNIPPET
}

var otherServers = map[string]otherServer{
	"bind": {
		check: []string{"named-checkconf"}, run: []string{"named", "-g", "-n", "1", "-c"},
		conf: `options {
	directory "DIR"; pid-file "DIR/named.pid"; session-keyfile "DIR/session.key"; managed-keys-directory "DIR";
	listen-on { none; }; listen-on-v6 port PORT { any; };
	recursion yes; allow-query { any; }; allow-recursion { any; }; dnssec-validation no;
	forward only; forwarders { ` + lab.Server4 + ` port 5300; };
SNIPPET};
controls { };
`},
	"unbound": {
		check: []string{"unbound-checkconf"}, run: []string{"unbound", "-d", "-c"},
		conf: `SNIPPET
server:
	interface: ` + lab.Gateway6 + `@PORT
	do-daemonize: no
	use-syslog: no
	username: ""
	chroot: ""
	directory: "DIR"
	pidfile: ""
forward-zone:
	name: "."
	forward-addr: ` + lab.Server4 + `@5300
`},
}

// start checks a snippet with the server's own tool and starts the server with it.
func (o *otherServer) start(t *testing.T, l *lab.Lab, snippet string, port int) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "conf")
	conf := strings.NewReplacer("DIR", dir, "PORT", fmt.Sprint(port), "SNIPPET", snippet).Replace(o.conf)
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	check, env := tool(t, o.check[0])
	args := append([]string{"-i"}, env...)
	if out, err := l.Gateway.Output(limit(t, 10*time.Second), "env", append(args, check, path)...); err != nil {
		t.Fatalf("%s: %v: %s\n%s", check, err, out, conf)
	}
	run(t, l.Gateway, o.run[0], append(o.run[1:len(o.run):len(o.run)], path)...)
}

// Other servers load the configuration that nat64ctl prints for them, and then give the same answers as DNS64 of
// nat64d.
func TestDNS64Snippets(t *testing.T) {
	l := network(t, lab.Options{})
	serveNames64(t, l)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: %s, ports: 7000-8000 } ]
pool6: [ { prefix: 64:ff9b::/96 }, { prefix: 2001:db8:122:344::/64 } ]
dns64:
  enabled: true
  listen: ["[%s]:53"]
  upstreams: ["%s"]
`, lab.Gateway4, lab.Gateway6, liar))
	port := 5400
	for _, row := range []struct {
		name     string
		settings []string // keys and values
		servers  []string
	}{
		{"as it is", nil, []string{"bind", "unbound"}},
		{"all prefixes and a suffix", []string{"dns64.prefix_policy", "all", "dns64.suffix", "::1234"}, []string{"bind"}},
		{"a range", []string{"dns64.prefix_policy", "first", "dns64.ranges", "203.0.113.80/28=2001:db8:122:344::/64"}, []string{"bind"}},
		{"a range, some mapped", []string{"dns64.mapped", "192.0.2.0/24"}, []string{"bind"}},
		{"names with addresses of their own", []string{"dns64.ranges", "", "dns64.mapped", "", "dns64.translate_all", "true"}, []string{"bind", "unbound"}},
	} {
		for i := 0; i < len(row.settings); i += 2 {
			g.must("config", "set", row.settings[i], row.settings[i+1])
		}
		for _, server := range row.servers {
			o, at := otherServers[server], port
			port++
			t.Run(row.name+" for "+server, func(t *testing.T) {
				o.start(t, l, g.must("dns64", "snippet", server), at)
				for _, name := range []string{"v4", "c2", "both", "mixed", "private", "loop", "text", "nothing"} {
					if server == "unbound" && (name == "mixed" || name == "loop") { // it has no exclusions, and maps all addresses
						continue
					}
					want := ask64(t, l.Client, "@"+lab.Gateway6, name+".example.net", "AAAA")
					eventually(t, 20*time.Second, name+" is answered as by nat64d: "+want, func() error {
						if got := ask64(t, l.Client, "+time=1", "@"+lab.Gateway6, "-p", fmt.Sprint(at), name+".example.net", "AAAA"); got != want {
							return errors.New(got)
						}
						return nil
					})
				}
			})
		}
	}
	g.stop()
}
