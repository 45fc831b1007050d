package gateway

import (
	"errors"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

// gone is a port whose NIC was deleted: it sends nothing or, with half, only the first packet.
type gone struct {
	nowhere
	half, closed bool
}

func (g *gone) Send(out []packet.Out) (int, error) {
	n := len(out)
	if g.half {
		n--
	}
	return n, errors.New("the NIC was deleted")
}

func (g *gone) Close() error { g.closed = true; return nil }

// A batch that a port could not send leaves through the next port, unless part of it has been sent.
func TestLinkResendsBatchThroughNextPort(t *testing.T) {
	for _, c := range []struct {
		half, still bool // the next port fails as well
		sent, lost  int
	}{{false, false, 9, 0}, {true, false, 0, 8}, {false, true, 0, 9}} {
		first, next := &gone{half: c.half}, &nowhere{}
		ports := []Port{first, next}
		if c.still {
			ports[1] = &gone{}
		}
		g := stillWith(t, func(o *Options) {
			o.Open = func(s packet.Family, send bool) (Port, error) {
				if s != packet.V4 || !send {
					return &nowhere{}, nil
				}
				p := ports[0]
				ports = ports[1:]
				return p, nil
			}
		})
		g.workers[packet.V6].batch(clients(9))
		if lost := g.Counters.Drops(drop.Transmit); next.sent != c.sent || int(lost) != c.lost || !first.closed {
			t.Errorf("half %v, still %v: %d packets sent and %d lost, closed: %v", c.half, c.still, next.sent, lost, first.closed)
		}
	}
}

// A port that receives stays open when it cannot send: packets of the batch still lie in its memory.
func TestLinkKeepsReceivingPortOpen(t *testing.T) {
	port := &gone{}
	g := stillWith(t, func(o *Options) {
		o.Config.Source6, o.Config.ErrorsTotal = packet.Addr6{0x20, 1, 15: 1}, 10
		o.Open = func(s packet.Family, send bool) (Port, error) {
			if s == packet.V6 && !send {
				return port, nil
			}
			return &nowhere{}, nil
		}
	})
	spent := udp6(1)
	spent[7] = 1 // hop limit: the ICMP error is sent where the packet was received
	w := g.workers[packet.V6]
	w.batch(frames([][]byte{spent}))
	if port.closed || w.in.port != port {
		t.Error("the port was closed in the middle of a batch")
	}
	if lost := g.Counters.Drops(drop.Transmit); lost != 1 {
		t.Errorf("%d packets are counted as not sent", lost)
	}
}
