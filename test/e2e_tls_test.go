package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// renew writes a self-signed certificate for dns.example to a folder, in the way of Kubernetes: dns.crt and dns.key are
// links by way of a link to a folder, which is replaced.
func renew(t *testing.T, dir string, serial int64) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"dns.example"}, NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	version := fmt.Sprintf("..%d", serial)
	if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"dns.crt": {Type: "CERTIFICATE", Bytes: der}, "dns.key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, version, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("..data/"+name, filepath.Join(dir, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(version, filepath.Join(dir, "..next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

// Clients ask over TLS, with dig, and others get no handshake. A confined gateway takes a renewed certificate by itself and after a
// reload, and keeps the old one while the new one is damaged.
func TestDNS64OverTLS(t *testing.T) {
	l := network(t, lab.Options{})
	serveNames64(t, l)
	dir := t.TempDir()
	renew(t, dir, 1)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: %s, ports: 7000-8000 } ]
dns64:
  enabled: true
  listen_tls: ["[::]:853"]
  tls_certificate: %s/dns.crt
  tls_key: %s/dns.key
  upstreams: ["%s"]
  clients: [2001:db8:1::/64]
`, lab.Gateway4, dir, dir, liar))
	serves := func(serial int64) error {
		c, err := l.Client.Dial(limit(t, 5*time.Second), "tcp", "["+lab.Gateway6+"]:853")
		if err != nil {
			return err
		}
		defer c.Close()
		s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if err := s.HandshakeContext(limit(t, 5*time.Second)); err != nil {
			return err
		}
		if got := s.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != serial {
			return fmt.Errorf("certificate %d, want %d", got, serial)
		}
		return nil
	}
	check := func() {
		t.Helper()
		want := "NOERROR; v4 AAAA 64:ff9b::c000:202"
		if got := ask64(t, l.Client, "+tls-ca="+dir+"/dns.crt", "+tls-hostname=dns.example", "@"+lab.Gateway6, "v4.example.net", "AAAA"); got != want {
			t.Errorf("over TLS: got %s, want %s", got, want)
		}
	}
	if err := serves(1); err != nil {
		t.Error(err)
	}
	check()
	if got := ask64(t, l.Server, "+tls", "+time=2", "@"+lab.Gateway4, "v4.example.net", "AAAA"); got != "no answer" {
		t.Errorf("a host that is no client got %s", got)
	}
	if got := g.must("dns64", "status"); !strings.Contains(got, "[::]:853") {
		t.Errorf("the status does not show the listener:\n%s", got)
	}
	renew(t, dir, 2)
	eventually(t, recoverWithin, "the renewed certificate is in use", func() error { return serves(2) })
	renew(t, dir, 3)
	g.must("reload")
	if err := serves(3); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	check()
	if err := os.WriteFile(filepath.Join(dir, "..3", "dns.key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	g.must("reload")
	if err := serves(3); err != nil {
		t.Errorf("with a damaged key: %v", err)
	}
	if got := g.must("status"); !strings.Contains(got, "DNS64 keeps its previous certificate") {
		t.Errorf("the status does not warn:\n%s", got)
	}
	g.stop()
}
