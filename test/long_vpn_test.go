//go:build long

package test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// A WireGuard peer, which has no link-layer address, is served like any other network behind the node.
func TestLongNodeServesVPN(t *testing.T) {
	n := &node{Lab: network(t, lab.Options{})}
	serveHTTP(t, n.Lab)
	_, _ = tool(t, "wireguard-go")
	keys := [2]string{wireguardKey(t), wireguardKey(t)}
	peer := func(ns *lab.Namespace, name, own, other, address, port, rest string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		script := "rm -f /var/run/wireguard/" + name + ".sock; WG_PROCESS_FOREGROUND=1 LOG_LEVEL=error wireguard-go " + name + " >/dev/null 2>&1 & " +
			"for i in $(seq 200); do [ -S /var/run/wireguard/" + name + ".sock ] && break; sleep 0.02; done; set -e; " +
			"wg set " + name + " private-key " + file + " listen-port " + port + " peer " + publicKey(t, other) + " " + rest + "; " +
			"ip addr add " + address + " dev " + name + "; ip link set " + name + " up"
		if _, err := ns.Output(limit(t, 20*time.Second), "bash", "-c", script); err != nil {
			t.Fatal(err)
		}
	}
	peer(n.Gateway, "wgn64a", keys[0], keys[1], "2001:db8:77::1/64", "51820", "allowed-ips 2001:db8:77::2/128 endpoint ["+lab.Client6+"]:51821")
	peer(n.Client, "wgn64b", keys[1], keys[0], "2001:db8:77::2/64", "51821", "allowed-ips ::/0 endpoint ["+lab.Gateway6+"]:51820")
	if _, err := n.Client.Output(limit(t, 5*time.Second), "ip", "-6", "route", "replace", lab.Prefix6, "dev", "wgn64b"); err != nil {
		t.Fatal(err)
	}
	g := n.attach(t, bothHosts)
	if _, err := n.Client.Ping(limit(t, 10*time.Second), lab.Server4As6, 1, 56); err != nil {
		t.Errorf("ping from the peer: %v", err)
	}
	fetchFrom(t, n.Client, target+":80")
	if list := g.must("session", "list"); !strings.Contains(list, "[2001:db8:77::2]") {
		t.Errorf("the peer's packets did not come through the tunnel: %s", list)
	}
	g.stop()
}

// wireguardKey returns a new private key.
func wireguardKey(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("wg", "genkey").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func publicKey(t *testing.T, private string) string {
	t.Helper()
	cmd := exec.Command("wg", "pubkey")
	cmd.Stdin = strings.NewReader(private)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
