//go:build linux

package daemon

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/ops/control"
	"nat64d/ops/trace"
	"nat64d/packet"
	"nat64d/session"
)

// Trace implements control.Backend.
func (b *backend) Trace(f control.TraceFilter) (control.Recording[control.Traced], error) {
	tap, err := b.tap(&f, 0)
	if err != nil {
		return nil, err
	}
	return tracing{tap}, nil
}

// Capture implements control.Backend.
func (b *backend) Capture(f control.TraceFilter) (control.CaptureStart, control.Recording[control.Captured], error) {
	snap := min(cmp.Or(f.Snap, gateway.MaxSnap), gateway.MaxSnap)
	tap, err := b.tap(&f, snap)
	if err != nil {
		return control.CaptureStart{}, nil, err
	}
	return control.CaptureStart{Version: b.options.Version.Version, Snap: snap, Interfaces: []control.CaptureInterface{
		{Side: packet.V6.String(), Name: b.routes.Link6().Name},
		{Side: packet.V4.String(), Name: b.routes.Link4().Name},
	}}, capturing{tap}, nil
}

// tap begins to record the packets that a filter selects.
func (b *backend) tap(f *control.TraceFilter, snap int) (*gateway.Tap, error) {
	o := trace.Options{Client: f.Client, Peer: f.Peer, Ports: f.Ports, Protocols: f.Protocols, Reasons: f.Reasons, Drops: f.Drops}
	filter, err := o.Filter()
	if err != nil {
		return nil, err
	}
	tap, err := b.gateway.Tap(gateway.TapOptions{Filter: filter, Snap: snap})
	if errors.Is(err, gateway.ErrTaps) {
		return nil, &control.Error{Message: err.Error(), Hint: "end one of them"}
	}
	return tap, err
}

// tracing implements control.Recording.
type tracing struct{ *gateway.Tap }

// Read implements control.Recording.
func (t tracing) Read(ctx context.Context) (list []control.Traced, missed uint64, err error) {
	records, missed, err := t.Tap.Read(ctx)
	for i := range records {
		list = append(list, control.Traced{Time: records[i].Time, Verdict: verdict(&records[i].Verdict)})
	}
	return list, missed, err
}

// capturing implements control.Recording.
type capturing struct{ *gateway.Tap }

// Read implements control.Recording.
func (c capturing) Read(ctx context.Context) (list []control.Captured, missed uint64, err error) {
	records, missed, err := c.Tap.Read(ctx)
	for i := range records {
		r := &records[i]
		for k := range r.Packets {
			p := &r.Packets[k]
			trace.Finish(p)
			list = append(list, control.Captured{
				Time: r.Time, Side: p.Family.String(), Comment: trace.Comment(&r.Verdict, p), Length: max(p.Length, len(p.Data)), Data: p.Data,
			})
		}
	}
	return list, missed, err
}

// verdict returns the form of a Verdict in the API.
func verdict(v *gateway.Verdict) control.Verdict {
	c := control.Verdict{
		Verdict: v.Fate.String(), Direction: trace.Direction(v), Protocol: trace.Protocol(&v.In), Pieces: int(v.Pieces),
	}
	if received := optionalHeaders(&v.In); received != nil {
		c.Received = *received
	}
	if v.Reason != drop.None {
		c.Reason, c.Hint = v.Reason.String(), v.Reason.Help()
	}
	flow(v, &c)
	if v.Passed.Has(gateway.Found) {
		c.NextHop, c.MTU = net.HardwareAddr(v.Hop.Dst[:]).String(), int(v.Hop.MTU)
	}
	c.Sent, c.Answer = optionalHeaders(&v.Out), optionalHeaders(&v.Answer)
	for _, s := range trace.Steps(v) {
		c.Steps = append(c.Steps, control.Step{Step: s.Name, Text: s.Text, RFC: s.RFC})
	}
	return c
}

// flow sets the addresses and the session of a verdict, as far as they are known.
func flow(v *gateway.Verdict, c *control.Verdict) {
	f := &v.Flow
	if f.Client != (packet.Endpoint6{}) {
		c.Client, c.ClientPort = netip.AddrFrom16(f.Client.Addr), f.Client.Port
	}
	if f.Mapped != (packet.Endpoint4{}) {
		c.Mapped, c.MappedPort = netip.AddrFrom4(f.Mapped.Addr), f.Mapped.Port
	}
	if f.Remote != (packet.Endpoint4{}) {
		c.Peer, c.PeerPort = netip.AddrFrom4(f.Remote.Addr), f.Remote.Port
	}
	if !v.Passed.Has(gateway.Looked) || trace.Quotes(&v.In) {
		return
	}
	c.Session = trace.SessionWord(v)
	if f.Proto == packet.TCP {
		c.StateBefore, c.State = stateName(v.State.Before), stateName(v.State.After)
	}
}

// stateName returns the name of a state, and none for a session that does not exist.
func stateName(s session.State) string {
	if s == session.Closed {
		return ""
	}
	return s.String()
}

func optionalHeaders(h *gateway.Header) *control.Headers {
	if h.Length == 0 {
		return nil
	}
	c := headers(h)
	return &c
}

func headers(h *gateway.Header) control.Headers {
	src, dst := h.Source(), h.Destination()
	c := control.Headers{
		Source: src.Addr(), SourcePort: src.Port(), Destination: dst.Addr(), DestinationPort: dst.Port(), Protocol: trace.Protocol(h),
		HopLimit: int(h.HopLimit), Length: int(h.Length), Segment: int(h.Segment), Text: trace.Describe(h),
	}
	switch h.Number {
	case packet.NumTCP:
		c.Flags = trace.Flags(h.Flags)
	case packet.NumICMP, packet.NumICMPv6:
		kind, code := h.Type, h.Code
		c.ICMPType, c.ICMPCode = &kind, &code
	}
	if h.Echo() {
		id := h.ID
		c.Identifier = &id
	}
	return c
}
