//go:build linux

package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a self-signed certificate to the folder, dns.crt and dns.key, by replacing the files.
func writeCertificate(t testing.TB, dir string, serial int64, life time.Duration) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"dns.example"}, NotAfter: time.Now().Add(life)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"dns.crt": {Type: "CERTIFICATE", Bytes: der}, "dns.key": {Type: "PRIVATE KEY", Bytes: private}} {
		next := filepath.Join(dir, name+".next")
		if err := os.WriteFile(next, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// A renewed certificate takes effect. While its files do not fit, are missing or damaged, the previous one stays.
func TestCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log syncBuffer
	c := &certificate{chain: filepath.Join(dir, "dns.crt"), key: filepath.Join(dir, "dns.key"), log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := c.load(); err == nil || !strings.Contains(err.Error(), "dns64.tls_certificate "+c.chain) {
		t.Errorf("missing files: got %v", err)
	}
	serial := func() int64 {
		t.Helper()
		pair, err := c.config().GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Leaf.SerialNumber.Int64()
	}
	expect := func(want int64, warning string) {
		t.Helper()
		if !c.changed() {
			t.Error("the change is not noticed")
		}
		if err := c.load(); (err == nil) != (warning == "" || strings.Contains(warning, "expire")) {
			t.Errorf("got %v", err)
		}
		if got := serial(); got != want {
			t.Errorf("certificate %d is in use, want %d", got, want)
		}
		ws := strings.Join(c.warnings(), "\n")
		if (ws == "") != (warning == "") || !strings.Contains(ws, warning) {
			t.Errorf("warnings %q, want %q", ws, warning)
		}
		if c.changed() {
			t.Error("a change is noticed twice")
		}
	}
	writeCertificate(t, dir, 1, 30*24*time.Hour)
	expect(1, "")
	writeCertificate(t, dir, 2, 30*24*time.Hour)
	expect(2, "")
	key, err := os.ReadFile(c.key)
	if err != nil {
		t.Fatal(err)
	}
	writeCertificate(t, dir, 3, 30*24*time.Hour)
	if err := os.WriteFile(c.key, key, 0o600); err != nil { // of certificate 2
		t.Fatal(err)
	}
	expect(2, "private key does not match public key")
	if err := os.Remove(c.chain); err != nil {
		t.Fatal(err)
	}
	expect(2, "no such file")
	writeCertificate(t, dir, 4, time.Hour)
	expect(4, "expires on")
	writeCertificate(t, dir, 5, -time.Hour)
	expect(5, "expired on")
	if got := log.String(); strings.Count(got, "DNS64 has a new certificate") != 3 || strings.Count(got, "keeping the previous one") != 2 {
		t.Errorf("logged %s", got)
	}
}
