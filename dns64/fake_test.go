package dns64

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fake is an upstream on UDP, TCP and TLS ports of the loopback interface, with a function that makes its answers.
type fake struct {
	udp, tcp, tls Upstream
	roots         *x509.CertPool
	asked         atomic.Int64
	overTCP       atomic.Int64
}

// startFake runs an upstream. answer gets the question and the reply to fill in; without a reply nothing is sent.
func startFake(t testing.TB, answer func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg) *fake {
	t.Helper()
	f := new(fake)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		f.asked.Add(1)
		if w.RemoteAddr().Network() == "tcp" {
			f.overTCP.Add(1)
		}
		if m := answer(w, q); m != nil {
			_ = w.WriteMsg(m)
		}
	})
	packets, stream := bothPorts(t)
	addr := packets.LocalAddr().(*net.UDPAddr).AddrPort()
	certificate, roots := certificate(t)
	secure, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	f.roots = roots
	f.udp, f.tcp = Upstream{Transport: UDP, Addr: addr}, Upstream{Transport: TCP, Addr: addr}
	f.tls = Upstream{Transport: TLS, Addr: secure.Addr().(*net.TCPAddr).AddrPort(), Name: "dns.example"}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: stream, Handler: handler}, {Listener: secure, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return f
}

// bothPorts opens the same port for UDP and TCP, and retries if another process takes one of them.
func bothPorts(t testing.TB) (net.PacketConn, net.Listener) {
	t.Helper()
	for range 20 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		stream, err := net.Listen("tcp", packets.LocalAddr().String())
		if err == nil {
			return packets, stream
		}
		packets.Close()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// certificate returns a self-signed certificate for dns.example.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"dns.example"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}, roots
}
