package control_test

import (
	"context"
	"net/netip"
	"time"

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

// captureStart and captured are the capture of memory.
var (
	captureStart = control.CaptureStart{Version: "v1", Snap: 96, Interfaces: []control.CaptureInterface{{Side: "v6", Name: "lan0"}, {Side: "v4", Name: "wan0"}}}
	captured     = []control.Captured{
		{Time: time.Unix(1700000000, 0).UTC(), Side: "v6", Comment: "6to4 received", Length: 3, Data: []byte("abc")},
		{Time: time.Unix(1700000000, 0).UTC(), Side: "v4", Comment: "6to4 sent", Length: 1500, Data: []byte{0, 1, 255}},
	}
)

// tape is a trace or a capture, whose packets it has once.
type tape[T any] struct {
	memory *memory
	items  []T
}

func (m *memory) Trace(f control.TraceFilter) (control.Recording[control.Traced], error) {
	if len(f.Reasons) > 0 && f.Reasons[0] == "nonsense" {
		return nil, &control.Error{Message: "no such reason", Hint: "look at the list"}
	}
	m.tapped(f)
	return &tape[control.Traced]{m, traced}, nil
}

func (m *memory) Capture(f control.TraceFilter) (control.CaptureStart, control.Recording[control.Captured], error) {
	m.tapped(f)
	return captureStart, &tape[control.Captured]{m, captured}, nil
}

func (m *memory) tapped(f control.TraceFilter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.taps++
	m.filter = f
}

func (t *tape[T]) Close() {
	t.memory.mu.Lock()
	defer t.memory.mu.Unlock()
	t.memory.taps--
}

// Read returns the packets once, and two missed ones.
func (t *tape[T]) Read(ctx context.Context) (list []T, missed uint64, err error) {
	if t.items == nil {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	list, t.items = t.items, nil
	return list, 2, nil
}
