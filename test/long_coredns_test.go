//go:build long

package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"nat64d/lab"
)

// usualCorefile is that of a guide to IPv6-only clusters that operators follow: the plugin dns64 with translate_all, and public
// resolvers, here addresses of the gateway.
const usualCorefile = `.:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes k8s.internal in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    # DNS64: Synthesize AAAA records for IPv4-only domains
    dns64 64:ff9b::/96 {
        prefix 64:ff9b::/96
        translate_all  # Translate even if real AAAA exists (optional)
    }
    forward . 2606:4700:4700::1111 2001:4860:4860::8888 {
        max_concurrent 1000
    }
    cache 30
    reload
    loadbalance
}
`

const (
	nodeDNS    = "fd00:64::53"       // of DNS64 on the gateway, as in docs/kubernetes.md
	resolver4  = "192.0.2.53"        // of an IPv4-only resolver, as there
	clusterIP  = "fd00:10:96::80"    // of the service web in the cluster
	podSecrets = "/var/run/secrets/" // of a pod; CoreDNS finds the API with them
)

// A pod that has nothing but IPv6 asks the real CoreDNS, and downloads from an IPv4-only host by name: with the Corefile of a guide,
// with those of docs/kubernetes.md, and through NodeLocal DNSCache. Names of the cluster are not sent to nat64d.
func TestLongCoreDNS(t *testing.T) {
	l := network(t, lab.Options{})
	serveNames64(t, l)
	upstreams := []string{"2606:4700:4700::1111", "2001:4860:4860::8888"}
	for _, a := range append(upstreams, nodeDNS) {
		command(t, l.Gateway, "ip", "-6", "address", "add", a+"/128", "dev", "lo")
		command(t, l.Client, "ip", "-6", "route", "add", a+"/128", "via", lab.Gateway6)
	}
	command(t, l.Server, "ip", "address", "add", resolver4+"/32", "dev", "lo")
	forwardNames64(t, l, l.Gateway, upstreams...)
	forwardNames64(t, l, l.Server, resolver4)
	g := startConfig(t, l, fmt.Sprintf(`pool4: [ { address: %s, ports: 7000-8000 } ]
dns64: { enabled: true, listen: ["[%s]:53"], upstreams: ["%s"], clients: [2001:db8:1::/64] }
`, lab.Gateway4, nodeDNS, liar))
	stop, err := l.Server.ServeHTTP(lab.Server4 + ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	secrets := serveKubernetes(t, l.Client)
	page, err := os.ReadFile("../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	corefiles := regexp.MustCompile("(?s)```corefile\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(corefiles) != 2 {
		t.Fatalf("docs/kubernetes.md has %d Corefiles, want 2", len(corefiles))
	}
	const web = "web.default.svc."
	for _, row := range []struct {
		name, corefile string
		service        string // name of a service in the cluster
		answer         string // for AAAA of it
		both           string // for AAAA of a name with both addresses
	}{
		// CoreDNS ignores the block after the prefix. If it does not, translate_all takes the IPv6 addresses from names of the cluster,
		// too. docs/dns64.md warns of both.
		{"of a guide", usualCorefile, web + "k8s.internal", clusterIP, "2001:db8:f::81"},
		{"of a guide with translate_all", strings.Replace(usualCorefile, "dns64 64:ff9b::/96 {", "dns64 {", 1), web + "k8s.internal", "", "64:ff9b::cb00:7151"},
		{"forwarding to DNS64", corefiles[0][1], web + "cluster.local", clusterIP, "2001:db8:f::81"},
		{"with its plugin", corefiles[1][1], web + "cluster.local", clusterIP, "2001:db8:f::81"},
	} {
		t.Run(row.name, func(t *testing.T) {
			serveCorefile(t, l.Client, row.corefile, secrets)
			expectAddress(t, l, "::1", "v4.example.net", lab.Server4As6)
			expectAddress(t, l, "::1", "both.example.net", row.both)
			expectAddress(t, l, "::1", row.service, row.answer)
			if got, err := downloadByName(t, l, "::1"); err != nil || got != lab.Server4As6+" 200" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if got := g.must("dns64", "cache", "list"); strings.Contains(got, "cluster.local") || !strings.Contains(got, "v4.example.net") {
		t.Errorf("names of the cluster reached nat64d, or others did not:\n%s", got)
	}
	t.Run("with the snippet, over IPv4", func(t *testing.T) {
		serveCorefile(t, l.Client, ".:53 {\n"+g.must("dns64", "snippet", "coredns")+"forward . "+upstreams[0]+"\n}\n", secrets)
		expectAddress(t, l, "127.0.0.1", "v4.example.net", lab.Server4As6)
	})
	t.Run("NodeLocal DNSCache", func(t *testing.T) {
		corefile := g.must("dns64", "snippet", "nodelocaldns")
		serveCorefile(t, l.Gateway, strings.Replace(corefile, "__PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__", lab.Gateway6, 1), secrets)
		expectAddress(t, l, lab.Gateway6, "v4.example.net", lab.Server4As6)
		if got, err := downloadByName(t, l, lab.Gateway6); err != nil || got != lab.Server4As6+" 200" {
			t.Errorf("got %q, %v", got, err)
		}
	})
	g.stop()
}

// expectAddress expects one address of a name, or none.
func expectAddress(t *testing.T, l *lab.Lab, server, name, want string) {
	t.Helper()
	eventually(t, startWithin, name+" has the address "+want, func() error {
		got := ask64(t, l.Client, "+time=2", "@"+server, name, "AAAA")
		if _, address, _ := strings.Cut(got, " AAAA "); address != want || !strings.HasPrefix(got, "NOERROR") {
			return errors.New(got)
		}
		return nil
	})
}

func command(t *testing.T, n *lab.Namespace, name string, args ...string) {
	t.Helper()
	path, _ := tool(t, name)
	if out, err := n.Output(limit(t, 5*time.Second), path, args...); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// forwardNames64 runs a plain resolver at addresses of a host.
func forwardNames64(t *testing.T, l *lab.Lab, n *lab.Namespace, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		c, err := n.ListenPacket("udp", net.JoinHostPort(a, "53"))
		if err != nil {
			t.Fatal(err)
		}
		s := &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { lieOrAsk(t, l, w, q) })}
		go func() { _ = s.ActivateAndServe() }()
		t.Cleanup(func() { _ = s.Shutdown() })
	}
}

// serveCorefile runs CoreDNS, which make test-long has built, with the secrets of a pod.
func serveCorefile(t *testing.T, n *lab.Namespace, corefile, secrets string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(path, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	coredns := filepath.Join(filepath.Dir(binaries(t).nat64d), "test", "coredns")
	if _, err := os.Stat(coredns); err != nil {
		t.Fatalf("%v: run make test-long, or go build -C test/coredns -o ../../bin/test/", err)
	}
	run(t, n, "unshare", "--mount", "sh", "-c", `mount -t tmpfs tmpfs /run && mkdir -p "$1" && cp -r "$2" "$1" &&
		KUBERNETES_SERVICE_HOST=::1 KUBERNETES_SERVICE_PORT=6443 exec "$3" -conf "$4"`, "sh", podSecrets, secrets, coredns, path)
}

// serveKubernetes runs as much of the API of Kubernetes as CoreDNS needs, with one IPv6-only service. It returns a folder with the
// secrets of a pod.
func serveKubernetes(t *testing.T, n *lab.Namespace) (secrets string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv6loopback}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secrets = filepath.Join(t.TempDir(), "kubernetes.io")
	account := filepath.Join(secrets, "serviceaccount")
	if err := os.MkdirAll(account, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "token": []byte("token")} {
		if err := os.WriteFile(filepath.Join(account, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := n.Listen("tcp", "[::1]:6443")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(answerAsKubernetes), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_ = s.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}))
	}()
	t.Cleanup(func() { _ = s.Close() })
	return secrets
}

// kubernetesLists has the lists of the API by path: kind, version and items.
var kubernetesLists = map[string][3]string{
	"/api/v1/namespaces": {"NamespaceList", "v1", `{"metadata":{"name":"default"}}`},
	"/api/v1/services": {"ServiceList", "v1", `{"metadata":{"name":"web","namespace":"default"},"spec":{"type":"ClusterIP","ipFamilies":["IPv6"],
		"clusterIP":"` + clusterIP + `","clusterIPs":["` + clusterIP + `"],"ports":[{"port":80,"protocol":"TCP"}]}}`},
	"/apis/discovery.k8s.io/v1/endpointslices": {"EndpointSliceList", "discovery.k8s.io/v1", ""},
}

// answerAsKubernetes answers with a list. It refuses to send a list as events, so that clients ask for it, and never has changes.
func answerAsKubernetes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	l, known := kubernetesLists[r.URL.Path]
	switch {
	case r.URL.Path == "/version":
		_, _ = io.WriteString(w, `{"major":"1","minor":"37","gitVersion":"v1.37.0"}`)
	case !known:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
	case r.URL.Query().Get("sendInitialEvents") == "true":
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
	case r.URL.Query().Get("watch") != "":
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	default:
		_, _ = fmt.Fprintf(w, `{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[%s]}`, l[0], l[1], l[2])
	}
}
