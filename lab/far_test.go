//go:build linux

package lab

import (
	"testing"
	"time"
)

// The far hosts reach the gateway for any MTU of their links. The first reply that is larger than the MTU of a link
// is dropped with an ICMP error.
func TestFarHosts(t *testing.T) {
	t.Parallel()
	l := newLab(t, Options{Far: true})
	for _, mtu := range []int{1500, 1280} {
		if err := l.SetFarMTU6(mtu); err != nil {
			t.Fatal(err)
		}
		if err := l.SetFarMTU4(mtu); err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{8, 1400, 8001} {
			checkFarPing(t, l.FarClient, Gateway6, size)
			checkFarPing(t, l.FarServer, Gateway4, size)
		}
	}
}

func checkFarPing(t *testing.T, n *Namespace, address string, size int) {
	t.Helper()
	var err error
	for try := range uint16(3) {
		if _, err = n.PingAs(limit(t, 500*time.Millisecond), address, 7, try, size); err == nil {
			return
		}
	}
	t.Errorf("%d bytes to %s: %v", size, address, err)
}
