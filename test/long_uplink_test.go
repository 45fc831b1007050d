//go:build long

package test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// With --v4 default, nat64d uses the interface of the IPv4 default route and its address, waits for one, and follows it.
func TestLongUplinkFollowsDefaultRoute(t *testing.T) {
	const far = "203.0.113.9"
	n := &node{Lab: network(t, lab.Options{})}
	if _, err := n.Server.Output(limit(t, 5*time.Second), "ip", "addr", "add", far+"/32", "dev", "lo"); err != nil {
		t.Fatal(err)
	}
	stop, err := n.Server.ServeHTTP(far + ":80")
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	n.run(t, "ip link add up1 type veth peer name eth1 netns "+n.Server.Name)
	n.run(t, "ip addr add 198.18.0.1/24 dev up1")
	n.run(t, "ip link set up1 up")
	if _, err := n.Server.Output(limit(t, 5*time.Second), "bash", "-ec", "ip addr add 198.18.0.2/24 dev eth1; ip link set eth1 up"); err != nil {
		t.Fatal(err)
	}
	g := launch(t, n.Lab, socketPath(t), "--v6", n.NIC6, "--v4", "default")
	eventually(t, 5*time.Second, "a word about the missing route", func() error {
		if !strings.Contains(g.log.String(), "no IPv4 default route") {
			return errors.New(g.log.String())
		}
		return nil
	})
	n.run(t, "ip route add default via "+lab.Server4+" dev v4 metric 5")
	g.ready()
	uses := func(address, nic string) {
		t.Helper()
		eventually(t, 10*time.Second, "translation by "+nic, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := n.Client.Ping(ctx, "64:ff9b::"+far, 1, 56); err != nil {
				return err
			}
			if pool := g.must("pool4", "list"); !strings.Contains(pool, address) || !strings.Contains(g.must("status"), nic) {
				return errors.New(pool)
			}
			return nil
		})
		fetchFrom(t, n.Client, "[64:ff9b::"+far+"]:80")
	}
	uses(lab.Gateway4, "v4")
	n.run(t, "ip route add default via 198.18.0.2 dev up1 metric 1")
	uses("198.18.0.1", "up1")
	g.must("config", "set", "logging.level", "debug") // a change of the configuration keeps the interface
	uses("198.18.0.1", "up1")
	n.run(t, "ip route del default via 198.18.0.2 dev up1 metric 1")
	uses(lab.Gateway4, "v4")
	g.stop()
}
