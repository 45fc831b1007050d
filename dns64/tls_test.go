package dns64

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serveTLS runs a server for DNS over TLS until the test ends, and returns its address and the TLS configuration of a client.
func serveTLS(t testing.TB, c Config) (f *Forwarder, server string, client *tls.Config) {
	t.Helper()
	pair, roots := certificate(t)
	f = New(c, slog.New(slog.DiscardHandler))
	s, err := ListenTLS(f, netip.MustParseAddrPort("127.0.0.1:0"), &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"dot"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f, s.Addrs()[0].String(), &tls.Config{RootCAs: roots, ServerName: "dns.example"}
}

// Clients with ALPN and without it ask several questions on one connection, and get the answers in any order.
func TestDNSOverTLS(t *testing.T) {
	t.Parallel()
	_, server, conf := serveTLS(t, testConfig(t, startFake(t, zone(t, a7)).udp))
	for _, alpn := range [][]string{nil, {"dot"}} {
		conf.NextProtos = alpn
		c, err := tls.Dial("tcp", server, conf)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conn := &dns.Conn{Conn: c}
		var ids []uint16
		for range 3 {
			q := new(dns.Msg).SetQuestion("h.example.com.", dns.TypeAAAA)
			ids = append(ids, q.Id)
			if err := conn.WriteMsg(q); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 {
			m, err := conn.ReadMsg()
			if err != nil || brief(m) != made7 || !slices.Contains(ids, m.Id) {
				t.Fatalf("got %v, %v", m, err)
			}
		}
	}
}

// A client that is not served gets no handshake, and counts as denied.
func TestDNSOverTLSServesClientsOnly(t *testing.T) {
	t.Parallel()
	up := startFake(t, zone(t, a7))
	f, _, _ := serveTLS(t, testConfig(t, up.udp))
	s := &Server{f: f}
	for addr, want := range map[string]bool{"127.0.0.2": true, "192.0.2.53": true, "192.0.2.1": false, "2001:db8::1": false} {
		if got := s.admits(sender{addr: addr}); got != want {
			t.Errorf("%s: served %v, want %v", addr, got, want)
		}
	}
	if n := f.Stats.Totals().Denied; n != 2 {
		t.Errorf("%d were denied, want 2", n)
	}
}

// sender is a connection from an address.
type sender struct {
	net.Conn
	addr string
}

func (sender) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP("192.0.2.53"), Port: 853} }

func (f sender) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.addr), Port: 4000} }

// Connections that do not complete the handshake are bounded as all others are, and do not keep clients out.
func TestTooManyHandshakes(t *testing.T) {
	t.Parallel()
	f, server, conf := serveTLS(t, testConfig(t, startFake(t, zone(t, a7)).udp))
	for range maxStreams + 50 {
		c, err := net.Dial("tcp", server)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	c := dns.Client{Net: "tcp-tls", TLSConfig: conf, Timeout: 8 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion("h.example.com.", dns.TypeAAAA), server)
	if err != nil || brief(m) != made7 {
		t.Errorf("got %v, %v", m, err)
	}
	f.open.mu.Lock()
	defer f.open.mu.Unlock()
	if n := len(f.open.open); n > share(maxStreams) {
		t.Errorf("%d connections of one client, want at most %d", n, share(maxStreams))
	}
}

// Bytes that are not TLS end the connection at once, and clear text is not answered.
func TestDNSOverTLSRefusesClearText(t *testing.T) {
	t.Parallel()
	_, server, _ := serveTLS(t, testConfig(t, startFake(t, zone(t, a7)).udp))
	c, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(handshakeTime / 2))
	if _, err := c.Write(framed(t, "h.example.com.")); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); len(b) > 0 && b[0] != 21 { // 21 is a TLS alert
		t.Errorf("got % x, %v", b, err)
	}
}
