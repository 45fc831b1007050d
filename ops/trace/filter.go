package trace

import (
	"fmt"
	"net/netip"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/packet"
)

// Options select packets, by names as an operator writes them.
type Options struct {
	Client    netip.Prefix
	Peer      netip.Prefix
	Ports     []uint16
	Protocols []string // tcp, udp and icmp; empty: all
	Reasons   []string // labels of drop reasons; empty: any fate
	Drops     bool     // only packets that are dropped
}

// Filter returns the filter for the options. Packets that are left to the host are included if the options name an address or a
// port: without one they would be all the traffic of the host.
func (o *Options) Filter() (f gateway.Filter, err error) {
	f = gateway.Filter{Client: o.Client, Peer: o.Peer, Ports: o.Ports, Drops: o.Drops}
	f.Host = o.Client.IsValid() || o.Peer.IsValid() || len(o.Ports) > 0
	for _, name := range o.Protocols {
		p, ok := protocol(name)
		if !ok {
			return f, fmt.Errorf("%q is not a protocol: use tcp, udp or icmp", name)
		}
		f.Protocols[p] = true
	}
	for _, label := range o.Reasons {
		r, ok := reason(label)
		if !ok {
			return f, fmt.Errorf("there is no drop reason %q: nat64ctl stats --all lists them, such as %v", label, drop.PoolExhausted)
		}
		if o.Drops && r.Host() {
			return f, fmt.Errorf("packets with the reason %v are left to the host, not dropped: ask for that reason alone, without drops", r)
		}
		f.Reasons[r] = true
	}
	return f, nil
}

func protocol(name string) (packet.Proto, bool) {
	for p := range packet.Protos {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}

func reason(label string) (drop.Reason, bool) {
	for r := drop.None + 1; r < drop.Count; r++ {
		if r.String() == label {
			return r, true
		}
	}
	return drop.None, false
}
