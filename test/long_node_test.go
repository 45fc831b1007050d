//go:build long

package test

import (
	"context"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// The kernel chooses the uplink: by rules for sources, through a point-to-point device without link-layer addresses, and not where an
// IPsec policy holds the packets back.
func TestLongNodeUplinks(t *testing.T) {
	n := newNode(t)
	const far = "203.0.113.9"
	far6 := "64:ff9b::" + far
	bash := func(ns *lab.Namespace, script string) {
		t.Helper()
		if _, err := ns.Output(limit(t, 10*time.Second), "bash", "-ec", script); err != nil {
			t.Fatal(err)
		}
	}
	bash(n.Server, "ip addr add "+far+"/32 dev lo")
	g := n.attach(t, bothHosts)
	ping := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := n.pods[0].Ping(ctx, far6, 1, 56)
		return err
	}
	if ping() == nil {
		t.Error("there is no route, and yet an answer")
	}
	n.run(t, "ip rule add from 10.64.64.64/30 lookup 100")
	n.run(t, "ip route add default via "+lab.Server4+" table 100")
	if err := ping(); err != nil {
		t.Errorf("through a route of a rule: %v", err)
	}
	n.run(t, "ip xfrm policy add dir fwd src 10.64.64.0/24 dst "+far+" action block")
	n.run(t, "ip xfrm policy add dir out src 10.64.64.0/24 dst "+far+" action block")
	if ping() == nil {
		t.Error("a packet that an IPsec policy blocks has left in clear")
	}
	n.run(t, "ip xfrm policy flush")
	n.run(t, "ip rule del lookup 100")
	tunnel(t, n)
	n.run(t, "ip route add "+far+" dev ppp9")
	bash(n.Server, "ip route add 10.9.9.1/32 dev ppp9")
	eventually(t, 5*time.Second, "a point-to-point device", ping) // the kernel drops one packet of a flow whose uplink has changed
	stop, err := n.Server.ServeHTTP(far + ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	fetchFrom(t, n.pods[0], "["+far6+"]:80")
	g.stop()
}

// tunnel connects the node and the server by TUN devices called ppp9, which have no link-layer addresses. The node has 10.9.9.1.
func tunnel(t *testing.T, n *node) {
	t.Helper()
	open := func(ns *lab.Namespace) (f *os.File) {
		err := ns.Do(func() error {
			fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
			if err != nil {
				return err
			}
			request, err := unix.NewIfreq("ppp9")
			if err != nil {
				return err
			}
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
				return err
			}
			f = os.NewFile(uintptr(fd), "tun")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	a, b := open(n.Gateway), open(n.Server)
	n.run(t, "ip addr add 10.9.9.1 peer 10.9.9.2 dev ppp9")
	for _, ns := range []*lab.Namespace{n.Gateway, n.Server} {
		if _, err := ns.Output(limit(t, 5*time.Second), "ip", "link", "set", "ppp9", "up"); err != nil {
			t.Fatal(err)
		}
	}
	for _, ends := range [][2]*os.File{{a, b}, {b, a}} { // a write to a device that is down would end them
		go io.CopyBuffer(struct{ io.Writer }{ends[0]}, struct{ io.Reader }{ends[1]}, make([]byte, 64<<10))
	}
}
