package test

import (
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// Every kind of traceroute shows the path: the gateway, the IPv4 router behind it by its address in pool6 (RFC 6146
// leaves that open; otherwise all routers would have the same address), and the destination.
func TestTracerouteShowsEveryRouter(t *testing.T) {
	const far = "64:ff9b::cb00:7102"
	l := network(t, lab.Options{Far: true})
	g := start(t, l, sparePool)
	echoTCP(t, l.FarServer, lab.FarServer4+":7")
	want := []string{lab.Gateway6, lab.Server4As6, far}
	for _, args := range [][]string{
		{"traceroute", "-6", "-n", "-q", "1", "-w", "2", "-m", "5", far},
		{"traceroute", "-6", "-I", "-n", "-q", "1", "-w", "2", "-m", "5", far},
		{"traceroute", "-6", "-T", "-p", "7", "-n", "-q", "1", "-w", "2", "-m", "5", far},
		{"mtr", "-6", "-n", "--report", "-c", "2", "-i", "0.3", "-G", "0.5", far},
		{"mtr", "-6", "-n", "--udp", "--report", "-c", "2", "-i", "0.3", "-G", "0.5", far},
		{"mtr", "-6", "-n", "--tcp", "--port", "7", "--report", "-c", "2", "-i", "0.3", "-G", "0.5", far},
	} {
		t.Run(strings.Join(args[:3], " "), func(t *testing.T) {
			checkHops(t, l.Client, args, want)
		})
	}
	g.stop()
}

// checkHops runs traceroute or mtr in a namespace and compares the addresses that it prints.
func checkHops(t *testing.T, n *lab.Namespace, args, want []string) {
	t.Helper()
	path, _ := tool(t, args[0])
	out, err := n.Output(limit(t, 20*time.Second), path, args[1:]...)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got []string
	for line := range strings.Lines(out) {
		// "1  2001:db8:1::1  0.1 ms" or "1.|-- 2001:db8:1::1  0.0%"
		if f := strings.Fields(line); len(f) > 2 && strings.Trim(f[0], "0123456789.|-") == "" {
			got = append(got, f[1])
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got the hops %q, want %q:\n%s", got, want, out)
	}
}
