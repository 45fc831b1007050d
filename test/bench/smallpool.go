package main

import (
	"context"
	"errors"
	"fmt"

	"nat64d/ops/control"
)

const (
	smallPorts = "7000-8000" // 1,001 ports
	smallRate  = 150         // short connections, and queries, a second
)

// smallPool are the measurements of how many connections and queries a second 1,001 ports sustain. TCP and UDP have
// ports of their own, so both are measured at the same time.
var smallPool = []workload{
	{"small pool", without, smallByDefault},
	{"small pool, when_full", without, smallWhenFull},
}

// smallByDefault measures the default settings, hold-down of ports included, or the kernel's masquerading onto as many ports.
func smallByDefault(ctx context.Context, s *stint) error {
	if s.daemon == nil {
		err := s.gateway.nft(ctx, "flush chain ip bench post\nadd rule ip bench post oifname \""+s.lab.NIC4+"\" meta l4proto { tcp, udp } masquerade to :"+smallPorts+"\n")
		return errors.Join(err, s.smallLoad(ctx, ""))
	}
	return errors.Join(s.smallRows(ctx, "sessions.port_hold_down", "120s"), s.smallLoad(ctx, ""))
}

// smallWhenFull measures sessions.reclaim. The kernel has no such setting.
func smallWhenFull(ctx context.Context, s *stint) error {
	if s.daemon == nil {
		return nil
	}
	return errors.Join(s.smallRows(ctx, "sessions.reclaim", "when_full"), s.smallLoad(ctx, ", when_full"))
}

// smallRows changes a setting and leaves nat64d 1,001 ports without sessions.
func (s *stint) smallRows(ctx context.Context, key, value string) error {
	c := s.control()
	_, set := c.SetConfig(ctx, control.ConfigChange{Key: key, Value: value})
	_, flush := c.FlushPool4(ctx)
	_, add := c.AddPool4(ctx, control.Pool4Change{Addresses: ourPool, Ports: smallPorts})
	return errors.Join(set, flush, add)
}

// smallLoad offers connections and queries and reports how many a second succeed once the state is steady.
func (s *stint) smallLoad(ctx context.Context, with string) error {
	if err := s.steerEnds(ctx, true); err != nil {
		return err
	}
	r, err := call[paceResult](ctx, s.client, toolPace, paceOrder{s.destination, smallRate, s.SmallPool, s.SmallPool})
	if err != nil {
		return err
	}
	row := fmt.Sprintf("1001 ports%s, %d/s offered: ", with, smallRate)
	s.put(row+"tcp conn/s", float64(r.Connections)/s.SmallPool.Seconds())
	s.put(row+"DNS queries/s", float64(r.Queries)/s.SmallPool.Seconds())
	return nil
}
