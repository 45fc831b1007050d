package control_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"nat64d/ops/control"
)

// traced are the packets of the trace of memory.
var traced = []control.Traced{
	{Time: time.Unix(1700000000, 0).UTC(), Verdict: control.Verdict{
		Verdict: "forwarded", Direction: "6to4", Protocol: "tcp", Client: netip.MustParseAddr("2001:db8::8"), ClientPort: 5,
		Steps: []control.Step{{Step: "received", Text: "tcp", RFC: "RFC 8200 section 3"}},
	}},
	{Time: time.Unix(1700000001, 0).UTC(), Verdict: control.Verdict{Verdict: "dropped", Reason: "no_route", Hint: "no route", Direction: "4to6", Protocol: "udp"}},
}

// tape is a trace or a capture of the packets above, which it repeats until it is closed.
type tape struct {
	memory *memory
	filter control.TraceFilter
	read   bool
}

func (m *memory) Trace(f control.TraceFilter) (control.Tracing, error) {
	if len(f.Reasons) > 0 && f.Reasons[0] == "nonsense" {
		return nil, &control.Error{Message: "no such reason", Hint: "look at the list"}
	}
	return m.tape(f), nil
}

func (m *memory) Capture(f control.TraceFilter) (control.Capturing, error) { return m.tape(f), nil }

func (m *memory) tape(f control.TraceFilter) *tape {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taps++
	m.filter = f
	return &tape{memory: m, filter: f}
}

func (t *tape) Close() {
	t.memory.mu.Lock()
	defer t.memory.mu.Unlock()
	t.memory.taps--
}

// Read returns the packets once, and two missed ones.
func (t *tape) Read(ctx context.Context) ([]control.Traced, uint64, error) {
	if t.read {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	t.read = true
	return traced, 2, nil
}

// WriteTo writes a file with two packets, and with the number of missed ones.
func (t *tape) WriteTo(ctx context.Context, w io.Writer, flush func() error) error {
	var b bytes.Buffer
	ng, err := pcapgo.NewNgWriter(&b, layers.LinkTypeRaw)
	if err != nil {
		return err
	}
	for range 2 {
		if err := ng.WritePacket(gopacket.CaptureInfo{CaptureLength: 3, Length: 3}, []byte("abc")); err != nil {
			return err
		}
	}
	if err := ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{PacketsDropped: 7, PacketsReceived: pcapgo.NgNoValue64}); err != nil {
		return err
	}
	_ = ng.Flush() // to memory
	if _, err := w.Write(b.Bytes()); err != nil {
		return err
	}
	if err := flush(); err != nil || t.filter.Limit > 0 {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}
