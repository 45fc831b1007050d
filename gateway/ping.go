package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nat64d/packet"
)

// Lengths of the IPv4 packets of Ping.
const (
	MinPing = packet.IPv4Len + packet.ICMPLen + cookieLen
	MaxPing = 9000
)

// Ping sends an echo request to an IPv4 host as a client behind the translator would, in an IPv4 packet of size bytes, and waits
// for the answer until ctx is done. It takes a binding of pool4, which all pings share. Packets of more than 1260 bytes have Don't
// Fragment set, as those of clients have.
func (g *Gateway) Ping(ctx context.Context, to netip.Addr, size int) (Pong, error) {
	if !to.Is4() || size < MinPing || size > MaxPing {
		return Pong{}, fmt.Errorf("ping %v with %d bytes: must be an IPv4 address and from %d to %d bytes", to, size, MinPing, MaxPing)
	}
	e, answer := g.pings.begin(to.As4(), size)
	defer g.pings.end(e.sequence)
	start := time.Now()
	g.pings.mail.put(e)
	g.workers[0].wake()
	select {
	case p := <-answer:
		p.Took = time.Since(start)
		return p, nil
	case <-ctx.Done():
		return Pong{}, errors.New("no answer")
	}
}
