//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"

	"nat64d/lab"
)

// serverName is the name of a server that has only an IPv4 address.
const serverName = "v4only.example"

// serveNames runs the resolver of the IPv4 network, which knows one name.
func serveNames(n *lab.Namespace) (stop func() error, err error) {
	c, err := n.ListenPacket("udp", net.JoinHostPort(lab.Server4, "53"))
	if err != nil {
		return nil, err
	}
	s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(answerName)}
	ended := make(chan error, 1)
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() { ended <- s.ActivateAndServe() }()
	select {
	case <-started:
	case err := <-ended:
		return nil, err
	}
	return func() error { return errors.Join(s.Shutdown(), <-ended) }, nil
}

func answerName(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	switch name := q.Question[0]; {
	case !strings.EqualFold(name.Name, serverName+"."):
		m.Rcode = dns.RcodeNameError
	case name.Qtype == dns.TypeA:
		h := dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
		m.Answer = []dns.RR{&dns.A{Hdr: h, A: net.ParseIP(lab.Server4)}}
	}
	_ = w.WriteMsg(m) // a client without an answer repeats its query
}

// visitor fetches pages like a host that uses only a DNS64 as resolver.
type visitor struct {
	at       *lab.Namespace
	resolver string // its address
	dir      string // for files
}

// fetch fetches the page of serverName: with curl, if it is installed.
func (v visitor) fetch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addrs, err := v.lookup().LookupNetIP(ctx, "ip6", serverName)
	if err != nil {
		return "", err
	}
	if want := netip.MustParseAddr(lab.Server4As6); len(addrs) != 1 || addrs[0] != want {
		return "", fmt.Errorf("%s has the addresses %v, want %v", serverName, addrs, want)
	}
	get := v.get
	if curl, err := exec.LookPath("curl"); err == nil {
		get = func(ctx context.Context) (string, error) { return v.curl(ctx, curl) }
	}
	page, err := get(ctx)
	if err == nil && page != lab.Greeting+"\n" {
		err = fmt.Errorf("the page is %q, want %q", page, lab.Greeting)
	}
	return fmt.Sprintf("%q", strings.TrimSpace(page)), err
}

func (v visitor) lookup() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return v.at.Dial(ctx, network, net.JoinHostPort(v.resolver, "53"))
	}}
}

// curl runs curl in a mount namespace with the visitor's resolver. On a host with IPv4, only -6 shows the gateway.
func (v visitor) curl(ctx context.Context, curl string) (string, error) {
	resolv := filepath.Join(v.dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+v.resolver+"\n"), 0o644); err != nil {
		return "", err
	}
	const script = `mount --bind "$1" /etc/resolv.conf && exec "$2" -6 -sSf "$3"`
	out, err := v.at.Output(ctx, "unshare", "--mount", "sh", "-c", script, "sh", resolv, curl, "http://"+serverName+"/")
	if err != nil {
		return "", fmt.Errorf("curl: %w: %s", err, out)
	}
	return out, nil
}

// get replaces curl if it is not installed.
func (v visitor) get(ctx context.Context) (string, error) {
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		addrs, err := v.lookup().LookupNetIP(ctx, "ip6", serverName)
		if err != nil {
			return nil, err
		}
		return v.at.Dial(ctx, network, netip.AddrPortFrom(addrs[0], 80).String())
	}}}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+serverName+"/", nil)
	if err != nil {
		return "", err
	}
	r, err := c.Do(q)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	page, err := io.ReadAll(io.LimitReader(r.Body, 1<<10))
	return string(page), err
}
