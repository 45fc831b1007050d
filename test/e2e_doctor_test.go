package test

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"golang.org/x/sys/unix"

	"nat64d/lab"
	"nat64d/ops/control"
)

// provoked is a problem, and the check of nat64ctl doctor that finds it.
type provoked struct {
	check   string
	do      func()            // provokes it
	again   bool              // nat64d mends it by itself after a while: provoke it until it is found
	values  map[string]string // of the words in capitals in the command that mends it
	mend    func()            // what the operator does with the output of the command
	found   control.Finding
	command string
}

// doctored is a lab whose problems nat64ctl doctor finds.
type doctored struct {
	*daemon
	flags []string // of nat64ctl doctor
}

// together provokes problems, and runs the commands that nat64ctl doctor names for them; then it finds none of them any more.
func (g *doctored) together(problems ...provoked) {
	g.t.Helper()
	for _, p := range problems {
		p.do()
	}
	eventually(g.t, recoverWithin, "the findings", func() error {
		found := g.findings()
		for i := range problems {
			p := &problems[i]
			at := slices.IndexFunc(found, func(f control.Finding) bool { return f.Check == p.check })
			if at < 0 {
				if p.again {
					p.do()
				}
				return fmt.Errorf("%s is not among %+v", p.check, found)
			}
			p.found = found[at]
		}
		return nil
	})
	for i := range problems {
		p := &problems[i]
		p.command = p.found.Command
		for word, value := range p.values {
			p.command = strings.ReplaceAll(p.command, word, value)
		}
		if args, ok := strings.CutPrefix(p.command, "nat64ctl "); ok {
			g.must(strings.Fields(args)...)
		} else {
			shell(g.t, g.lab.Gateway, p.command)
		}
		if p.mend != nil {
			p.mend()
		}
		g.t.Logf("%s: %s\n%s", p.check, p.found.Reason, p.command)
	}
	eventually(g.t, recoverWithin, "no finding any more", func() error {
		for _, f := range g.findings() {
			at := slices.IndexFunc(problems, func(p provoked) bool { return f.Check == p.check })
			if at >= 0 {
				return fmt.Errorf("after %s: %+v", problems[at].command, f)
			}
		}
		return nil
	})
}

// findings returns the findings of nat64ctl doctor.
func (g *doctored) findings() (all []control.Finding) {
	g.t.Helper()
	out, errs, code := g.ctl(append([]string{"doctor", "-o", "json"}, g.flags...)...)
	if errs != "" {
		g.t.Fatalf("nat64ctl doctor: %s", errs)
	}
	decode(g.t, out, &all)
	bad := slices.ContainsFunc(all, func(f control.Finding) bool { return f.Severity == control.SeverityError })
	if bad != (code == 1) {
		g.t.Errorf("exit code %d with %+v", code, all)
	}
	return all
}

// nat64ctl doctor finds each problem that is provoked, and not any more after the command that it names. Meanwhile the hosts of
// health.probe do not answer, which withdraws readiness, and then one does.
func TestDoctorFindsAndMends(t *testing.T) {
	l := network(t, lab.Options{})
	gw, srv := l.Gateway, l.Server
	const probed = "192.0.2.77"
	shell(t, gw, "sysctl -qw net.ipv4.conf.v4.promote_secondaries=1; ip address add 192.0.2.3/24 dev v4; ip route add default via "+lab.Server4)
	var prefix atomic.Pointer[netip.Prefix] // that a DNS64 of the network uses; nil: it is an ordinary DNS server
	serveDNS64(t, srv, &prefix)
	echoTCP(t, srv, lab.Server4+":5000")
	own, err := gw.DialFrom(limit(t, 5*time.Second), net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(lab.Gateway4 + ":7991"))}, "tcp", lab.Server4+":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	checkHost(t, l, "7000-7990", 0, "the machine is ready for it") // the connection is outside of these ports
	checkHost(t, l, "7000-8000", 0, "warning: connection: ")
	echoTCP(t, gw, lab.Gateway4+":7990")
	checkHost(t, l, "7000-8000", 1, "error: listener: ")
	checkHost(t, l, "7000-7001", 0, "the machine is ready for it")
	checkHost(t, l, "7000-7001 }\nhost: { guard: false", 1, "error: guard: ")
	g := &doctored{daemon: startConfig(t, l, fmt.Sprintf(ownRange, "7000-8000")+"host: { force: true }\n")}
	in := func(n *lab.Namespace, command string) func() { return func() { shell(t, n, command) } }
	ctl := func(args ...string) func() { return func() { g.must(args...) } }
	g.must("config", "set", "health.probe", "192.0.2.78,"+probed)

	g.together(
		provoked{check: "paused", do: ctl("pause")},
		provoked{check: "pool4", do: ctl("pool4", "remove", lab.Gateway4, "--udp"), values: map[string]string{"ADDRESS": lab.Spare4, "PORTS": "7000-8000"}},
		provoked{check: "pool4 full", do: ctl("bib", "add", "tcp", lab.Gateway4+":7000-7901", "["+lab.Client6+"]:1000-1901"), values: map[string]string{"ADDRESS": lab.Spare4, "PORTS": "7000-8000"}},
		provoked{check: "connection", do: func() {}},
		provoked{check: "listener", do: func() {}},
		provoked{check: "duplicate address", do: func() {
			shell(t, l.Client, "ip address add 2001:db8:1::77/64 dev eth0 nodad")
			shell(t, gw, "sysctl -qw net.ipv6.conf.v6.accept_dad=1 net.ipv6.conf.v6.router_solicitation_delay=0 net.ipv6.neigh.v6.retrans_time_ms=100; ip address add 2001:db8:1::77/64 dev v6")
		}},
		provoked{check: "offloads", do: in(gw, "ethtool -K v4 gro off")},
		provoked{check: "larger MTU", do: in(gw, "ip link set v4 mtu 1400")},
		provoked{check: "MTU", do: ctl("config", "set", "translation.lowest_ipv6_mtu", "1600")},
		provoked{check: "default route", do: in(gw, "ip route del default"), values: map[string]string{"ROUTER": lab.Server4}},
		provoked{check: "router advertisements", do: in(gw, "sysctl -qw net.ipv6.conf.v6.forwarding=1 net.ipv6.conf.v6.accept_ra=1")},
		provoked{check: "NAT rule", do: in(gw, `nft 'add table ip nat; add chain ip nat post { type nat hook postrouting priority 100; }; add rule ip nat post oifname "v4" masquerade'`)},
		provoked{check: "IPsec policy", do: in(gw, "ip xfrm policy add src 192.0.2.1 dst 203.0.113.0/24 dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp mode tunnel")},
		provoked{check: "port range", do: in(gw, `sysctl -qw net.ipv4.ip_local_port_range="7000 7900"`)},
	)
	shell(t, gw, "ip link set v4 mtu 1500; sysctl -qw net.ipv6.conf.v6.forwarding=0")

	g.flags = []string{"--probe", lab.Server4, "--dns", lab.Server4}
	g.together(provoked{check: "DNS64 answer", do: func() {}, mend: func() {
		other := netip.MustParsePrefix("2001:db8:64::/96")
		prefix.Store(&other)
	}})
	g.together(
		provoked{check: "DNS64", do: func() {}},
		provoked{check: "router", do: in(gw, "ip route replace default via 192.0.2.99 dev v4"), values: map[string]string{"ROUTER": lab.Server4}},
		provoked{check: "path MTU", do: in(srv, "ip link set eth0 mtu 1400")},
	)
	eventually(t, recoverWithin, "not ready without an answer", func() error {
		if s := g.status(); s.Ready || !strings.Contains(strings.Join(s.NotReady, "; "), "no host of health.probe answers") {
			return fmt.Errorf("ready: %v, %q", s.Ready, s.NotReady)
		}
		return nil
	})
	shell(t, srv, "ip link set eth0 mtu 1500; ip address add "+probed+"/32 dev eth0")
	shell(t, gw, "ip link set v4 mtu 1500")
	g.together(
		provoked{check: "probe", do: ctl("config", "set", "deny_v4", lab.Server4), values: map[string]string{"nat64ctl config get deny_v4; ": "", "PREFIXES": "203.0.113.9"}},
		provoked{check: "reverse path", do: in(gw, "ip link add other type veth peer name end; ip link set other up; ip link set end up; ip route replace default dev other; sysctl -qw net.ipv4.conf.v4.rp_filter=1")},
		provoked{check: "reserved ports", again: true, do: in(gw, `sysctl -qw net.ipv4.ip_local_port_range="7000 60999" net.ipv4.ip_local_reserved_ports=""`)},
	)
	eventually(t, recoverWithin, "ready again", func() error {
		if s := g.status(); !s.Ready {
			return fmt.Errorf("%q", s.NotReady)
		}
		return nil
	})
	checkSupport(t, g.daemon)
	g.flags = nil
	g.together(
		provoked{check: "interface", do: in(gw, "ip link set v6 down")},
		provoked{check: "pool4 address", do: in(gw, "ip address del 192.0.2.1/24 dev v4")},
	)
	g.together(
		provoked{check: "pool4 address", do: in(srv, "ip address add 192.0.2.1/32 dev eth0")},
		provoked{check: "IPv6 off", do: in(gw, "sysctl -qw net.ipv6.conf.v6.disable_ipv6=1")},
	)
	g.together(
		provoked{check: "smallest MTU", do: in(gw, "ip link set v6 mtu 1279")},
	)
	g.noErrors() // the next problem is one
	var release func()
	restart := "modprobe -a nf_tables nft_reject; systemctl restart nat64d" // by then, the other program has ended
	g.together(
		provoked{check: "guard", do: func() { release = ownTable(t, gw) }, values: map[string]string{restart: "true"}, mend: func() { release() }},
	)
	g.signal(unix.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0", code)
	}
}

// ownTable replaces the guard's table by one that a running program owns, so that no other program can change it, and returns a
// function that ends the program and with it the table.
func ownTable(t *testing.T, n *lab.Namespace) (release func()) {
	t.Helper()
	nft, env := tool(t, "nft")
	cmd := exec.Command(nft, "-i")
	cmd.Env = env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "delete table netdev nat64d; add table netdev nat64d { flags owner; }\n"); err != nil {
		t.Fatal(err)
	}
	return func() {
		in.Close()
		_ = cmd.Wait() // its exit code does not matter
	}
}

// ownRange is a pool4 with ports of the gateway's own address.
const ownRange = "pool4:\n  - { address: 192.0.2.1, ports: %s }\n"

// checkHost runs nat64d check --host for a pool4 with ports of the gateway's own address.
func checkHost(t *testing.T, l *lab.Lab, ports string, code int, want string) {
	t.Helper()
	file := write(t, t.TempDir(), configHead(l, "/run/unused.sock")+fmt.Sprintf(ownRange, ports))
	out, err := l.Gateway.Output(limit(t, 10*time.Second), binaries(t).nat64d, "check", "--host", "-c", file)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	}
	if got != code || !strings.Contains(out, want) {
		t.Errorf("nat64d check --host with ports %s: exit code %d, want %d and %q:\n%s", ports, got, code, want, out)
	}
}

// checkSupport checks the content of a bug report.
func checkSupport(t *testing.T, g *daemon) {
	t.Helper()
	bundle := filepath.Join(t.TempDir(), "bundle.tar.gz")
	g.must("support-bundle", bundle)
	f, err := os.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"version.txt": "kernel ", "config.txt": "health.probe: 192.0.2.78,192.0.2.77  # nat64ctl", "status.json": "\"checks\"", "stats.json": "\"name\"", "pool4.json": "192.0.2.1",
		"doctor.json": "\"severity\"", "links.txt": "v4", "addresses.txt": "2001:db8:1::1/64", "routes.txt": "192.0.2.2", "rules.txt": "table", "neighbours.txt": "192.0.2.2",
		"nftables.txt": "set pool4:", "log.txt": "msg=ready", "nat64ctl-version.txt": "go",
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		name := filepath.Base(h.Name)
		if err != nil || want[name] == "" || !strings.Contains(string(text), want[name]) || strings.Contains(string(text), "\ncannot be read: ") {
			t.Errorf("%s, %v, want %q in\n%.2000s", h.Name, err, want[name], text)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("the bundle lacks %v", want)
	}
}

// serveDNS64 answers questions for ipv4only.arpa with addresses in a prefix, or without an address.
func serveDNS64(t *testing.T, n *lab.Namespace, prefix *atomic.Pointer[netip.Prefix]) {
	t.Helper()
	conn, err := n.ListenPacket("udp", lab.Server4+":53")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if p := prefix.Load(); p != nil {
			a := p.Addr().As16()
			copy(a[12:], []byte{192, 0, 0, 170})
			m.Answer = []dns.RR{&dns.AAAA{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeAAAA, Class: dns.ClassINET}, AAAA: a[:]}}
		}
		_ = w.WriteMsg(m) // the client asks again
	})}
	go func() { _ = s.ActivateAndServe() }() // until Shutdown
	t.Cleanup(func() { _ = s.Shutdown() })
}

// shell runs a command in a namespace, and fails the test if it fails.
func shell(t *testing.T, n *lab.Namespace, command string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if out, err := n.Output(ctx, "sh", "-ec", "PATH=$PATH:/usr/sbin:/sbin; "+command); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}
