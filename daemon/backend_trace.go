//go:build linux

package daemon

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"nat64d/drop"
	"nat64d/gateway"
	"nat64d/ops/control"
	"nat64d/ops/trace"
	"nat64d/packet"
	"nat64d/session"
)

// Trace implements control.Backend.
func (b *backend) Trace(f control.TraceFilter) (control.Tracing, error) {
	tap, err := b.tap(&f, 0)
	if err != nil {
		return nil, err
	}
	return tracing{tap}, nil
}

// Capture implements control.Backend.
func (b *backend) Capture(f control.TraceFilter) (control.Capturing, error) {
	snap := cmp.Or(f.Snap, gateway.MaxSnap)
	if snap > gateway.MaxSnap {
		snap = gateway.MaxSnap
	}
	tap, err := b.tap(&f, snap)
	if err != nil {
		return nil, err
	}
	names := trace.Interfaces{packet.V6: b.routes.Link6().Name, packet.V4: b.routes.Link4().Name}
	return &capturing{Tap: tap, limit: f.Limit, begin: func(w io.Writer) (*trace.Capture, error) {
		return trace.NewCapture(w, b.options.Version.Version, names, snap)
	}}, nil
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

// tracing implements control.Tracing.
type tracing struct{ *gateway.Tap }

// Read implements control.Tracing.
func (t tracing) Read(ctx context.Context) (list []control.Traced, missed uint64, err error) {
	records, missed, err := t.Tap.Read(ctx)
	for i := range records {
		list = append(list, control.Traced{Time: records[i].Time, Verdict: verdict(&records[i].Verdict)})
	}
	return list, missed, err
}

// capturing implements control.Capturing.
type capturing struct {
	*gateway.Tap
	limit int
	begin func(io.Writer) (*trace.Capture, error)
}

// WriteTo implements control.Capturing.
func (c *capturing) WriteTo(ctx context.Context, w io.Writer, flush func() error) error {
	file, err := c.begin(w)
	if err == nil {
		err = flush()
	}
	for count := 0; err == nil; err = flush() {
		records, lost, err := c.Tap.Read(ctx)
		if err != nil {
			return err
		}
		for i := range records {
			r := &records[i]
			if c.limit > 0 {
				r.Packets = r.Packets[:min(len(r.Packets), c.limit-count)]
			}
			if err := file.Write(r); err != nil {
				return err
			}
			count += len(r.Packets)
		}
		if lost > 0 {
			if err := file.Lost(lost, time.Now()); err != nil {
				return err
			}
		}
		if c.limit > 0 && count >= c.limit {
			return nil
		}
	}
	return err
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
