package test

import (
	"fmt"
	"testing"
	"time"

	"nat64d/lab"
)

// A client cannot reach a link-local address of the IPv4 network, such as a cloud's metadata service, though pool4 is
// private and the gateway's kernel has a route. The gateway refuses packets whose source is unreachable.
func TestMetadataServiceAndForgedSourcesAreRefused(t *testing.T) {
	const metadata, far = "169.254.169.254", "2001:db8:bad::1"
	l := network(t, lab.Options{})
	g := startConfig(t, l, spareFile)
	ip(t, l.Server, "addr add "+metadata+"/32 dev lo")
	ip(t, l.Gateway, "route add 169.254.0.0/16 via "+lab.Server4)
	ip(t, l.Client, "addr add "+far+"/128 dev lo")
	send := func(source, to string) {
		t.Helper()
		if _, err := l.Client.Output(limit(t, 5*time.Second), "ping", "-c1", "-W1", "-I", source, "64:ff9b::"+to); err == nil && to == metadata {
			t.Errorf("%s answered", to)
		}
	}
	counted := func(reason string, want uint64) error {
		if n := g.dropped(reason); n != want {
			return fmt.Errorf("%d packets were dropped as %s, want %d", n, reason, want)
		}
		return nil
	}
	send(lab.Client6, metadata)
	eventually(t, time.Second, "the packet is refused", func() error { return counted("link_local4", 1) })
	send(far, lab.Server4)
	eventually(t, time.Second, "the packet is refused", func() error { return counted("unrouted_source", 1) })
	ip(t, l.Gateway, "route add "+far+" via "+lab.Client6)
	if _, err := l.Client.Output(limit(t, 5*time.Second), "ping", "-c1", "-W2", "-I", far, lab.Server4As6); err != nil {
		t.Errorf("with a route to the source: %v", err)
	}
	g.stop()
}
