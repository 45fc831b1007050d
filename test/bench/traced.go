package main

import (
	"context"
	"errors"
	"net/netip"

	"nat64d/ops/control"
)

// tracedNothing measures the overload rate while a trace runs whose filter selects no packet.
func tracedNothing(ctx context.Context, s *stint) error {
	filter := control.TraceFilter{Client: netip.MustParsePrefix("2001:db8:ffff::/48")}
	return s.whileObserved(ctx, "trace without matches", 0, func(ctx context.Context) error {
		err := s.control().Trace(ctx, filter,
			func(control.Traced) error { return errors.New("the trace has selected a packet") },
			func(uint64) error { return errors.New("the trace has left out a packet") })
		return ifNotOver(ctx, err)
	})
}
