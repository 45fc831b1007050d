//go:build linux

package lab

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func newLab(t *testing.T, o Options) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Traffic of every kind passes through the kernel's IPv6 forwarding, which replaces a gateway here.
func TestTrafficThroughPlainForwarding(t *testing.T) {
	for _, c := range []struct {
		name string
		opt  Options
	}{
		{"two NICs", Options{}},
		{"one NIC", Options{OneNIC: true}},
		{"no offload", Options{NoOffload: true}},
		{"small MTU", Options{MTU4: 1300, Clients: 3}},
		{"TAP devices", Options{TAP: true}},
		{"TAP devices, one NIC", Options{TAP: true, OneNIC: true}},
		{"TAP devices, no offload", Options{TAP: true, NoOffload: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, c.opt)
			if err := l.Forward(true); err != nil {
				t.Fatal(err)
			}
			ctx := limit(t, 30*time.Second)
			if _, err := l.Client.Ping(ctx, Server6, 1, 56); err != nil {
				t.Fatal(err)
			}
			checkHTTP(ctx, t, l)
			checkFlood(ctx, t, l)
			if err := l.Forward(false); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Client.Ping(limit(t, 200*time.Millisecond), Server6, 2, 56); err == nil {
				t.Error("got a reply while forwarding is off")
			}
		})
	}
}

func checkHTTP(ctx context.Context, t *testing.T, l *Lab) {
	t.Helper()
	const size = 4<<20 + 17
	stop, err := l.Server.ServeHTTP("[" + Server6 + "]:80")
	if err != nil {
		t.Fatal(err)
	}
	down, err := l.Client.Download(ctx, "["+Server6+"]:80", size)
	if err != nil || down.Bytes != size || down.Sum != Sum(size) {
		t.Errorf("download: %+v, %v; want %d bytes and sum %s", down, err, size, Sum(size))
	}
	up, err := l.Client.Upload(ctx, "["+Server6+"]:80", size)
	if err != nil || up.Sum != Sum(size) {
		t.Errorf("upload: %+v, %v; want sum %s", up, err, Sum(size))
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func checkFlood(ctx context.Context, t *testing.T, l *Lab) {
	t.Helper()
	before, err := l.Client.Counters()
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.Server.ServeFlood("[" + Server6 + "]:81")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Direction{Up, Down} {
		if rate, err := f.Rate(ctx, l.Client, "["+Server6+"]:81", d, 2, 100*time.Millisecond); err != nil || rate < 1e6 {
			t.Errorf("direction %c: %g bit/s, %v", d, rate, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	after, err := l.Client.Counters()
	if err != nil {
		t.Fatal(err)
	}
	if sent, lost := after.Since(before).Lost(); sent == 0 || lost > sent {
		t.Errorf("%d segments sent, %d lost", sent, lost)
	}
}

func TestPlugCreatesNewInterfaces(t *testing.T) {
	for name, opt := range map[string]Options{"veth": {}, "TAP": {TAP: true}} {
		t.Run(name, func(t *testing.T) { checkPlug(t, newLab(t, opt)) })
	}
}

func checkPlug(t *testing.T, l *Lab) {
	t.Helper()
	before, err := l.Gateway.links.LinkByName(l.NIC4)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{l.Unplug4, l.Unplug6, l.Plug4, l.Plug6} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	after, err := l.Gateway.links.LinkByName(l.NIC4)
	if err != nil {
		t.Fatal(err)
	}
	if before.Attrs().Index == after.Attrs().Index {
		t.Error("the interface kept its index")
	}
	if _, err := l.Client.Ping(limit(t, 5*time.Second), Gateway6, 1, 8); err != nil {
		t.Error(err)
	}
}

func TestCloseRemovesNamespaces(t *testing.T) {
	l := newLab(t, Options{})
	out, err := l.Client.Output(limit(t, 5*time.Second), "sleep", "0")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(namespaceRoot)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), strings.TrimSuffix(l.Client.Name, "c6")) {
			t.Errorf("namespace %s still exists", n.Name())
		}
	}
}

// New removes the namespace of a killed process. Process numbers are below 2^22.
func TestAbandonedNamespaceIsRemoved(t *testing.T) {
	newLab(t, Options{})
	n, err := newNamespace(namePrefix + "-4194305-1-c6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.handle.Close(); n.links.Close() })
	if err := removeStale(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(namespaceRoot + "/" + n.Name); !os.IsNotExist(err) {
		t.Errorf("the abandoned namespace still exists: %v", err)
	}
}

func TestCountersParse(t *testing.T) {
	t.Parallel()
	c := Counters{}
	if err := c.parse("Tcp: MaxConn RetransSegs OutSegs\nTcp: -1 7 100\nTcpExt: TCPDSACKRecvSegs\nTcpExt: 3\n"); err != nil {
		t.Fatal(err)
	}
	if sent, lost := c.Lost(); sent != 100 || lost != 4 {
		t.Errorf("got %d sent and %d lost, want 100 and 4", sent, lost)
	}
	if err := c.parse("Tcp: A B\nTcp: 1\n"); err == nil {
		t.Error("a line that lacks a value was accepted")
	}
	if err := c.parse6("Ip6InReceives    3\nUdp6RcvbufErrors 9\n"); err != nil || c.Overrun() != 9 {
		t.Errorf("got %d overruns, %v, want 9", c.Overrun(), err)
	}
	if err := c.parse6("Udp6RcvbufErrors\n"); err == nil {
		t.Error("a name without a value was accepted")
	}
}

// FuzzCountersParse parses arbitrary text, which must not panic.
func FuzzCountersParse(f *testing.F) {
	f.Add("Tcp: MaxConn RetransSegs\nTcp: -1 7\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Counters{}
		if errors.Join(c.parse(text), c.parse6(text)) == nil {
			c.Lost()
		}
	})
}

func TestDialRefusesNames(t *testing.T) {
	t.Parallel()
	if _, err := new(Namespace).Dial(context.Background(), "tcp", "example.net:80"); err == nil {
		t.Error("a name was accepted")
	}
}
