package main_test

import (
	"context"
	"net/netip"
	"time"

	"nat64d/ops/control"
)

// Trace returns a trace of two packets.
func (fake) Trace(f control.TraceFilter) (control.Recording[control.Traced], error) {
	for _, r := range f.Reasons {
		if r == "no_rout" {
			return nil, &control.Error{Message: `there is no drop reason "no_rout"`, Hint: "nat64ctl stats --all lists them"}
		}
	}
	return &fakeTrace{}, nil
}

type fakeTrace struct{ read bool }

func (*fakeTrace) Close() {}

func (f *fakeTrace) Read(ctx context.Context) ([]control.Traced, uint64, error) {
	if f.read {
		<-ctx.Done()
		return nil, 0, ctx.Err()
	}
	f.read = true
	server := netip.MustParseAddr("198.51.100.7")
	from := control.Headers{Source: client.Addr(), SourcePort: client.Port(), Destination: netip.MustParseAddr("64:ff9b::c633:6407"), DestinationPort: 443,
		Protocol: "tcp", Flags: "SYN", HopLimit: 64, Length: 80, Text: "tcp …, SYN"}
	sent := control.Headers{Source: mapped.Addr(), SourcePort: mapped.Port(), Destination: server, DestinationPort: 443, Protocol: "tcp", Flags: "SYN", HopLimit: 63, Length: 60, Text: "tcp …, SYN"}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	return []control.Traced{
		{Time: at, Verdict: control.Verdict{
			Verdict: "forwarded", Direction: "6to4", Protocol: "tcp", Client: client.Addr(), ClientPort: client.Port(), Mapped: mapped.Addr(), MappedPort: mapped.Port(),
			Peer: server, PeerPort: 443, Session: "made", State: "V6_INIT", Received: from, Sent: &sent, Pieces: 1, NextHop: "02:00:00:00:00:09", MTU: 1500,
			Steps: []control.Step{
				{Step: "received", Text: "tcp [2001:db8::8]:37878 → [64:ff9b::c633:6407]:443, SYN, 80 bytes, hop limit 64", RFC: "RFC 8200 section 3"},
				{Step: "prefix", Text: "198.51.100.7 behind 64:ff9b::/96", RFC: "RFC 6052 section 2.2"},
				{Step: "end", Text: "forwarded"},
			},
		}},
		{Time: at, Verdict: control.Verdict{
			Verdict: "dropped", Reason: "no_route", Hint: "no route", Direction: "6to4", Protocol: "tcp", Received: from,
			Steps: []control.Step{{Step: "received", Text: "tcp"}, {Step: "end", Text: "dropped: no_route: no route"}},
		}},
	}, 3, nil
}

// Capture returns a capture of two packets, between which seven are missing.
func (fake) Capture(control.TraceFilter) (control.CaptureStart, control.Recording[control.Captured], error) {
	return control.CaptureStart{Version: "v1", Snap: 96, Interfaces: []control.CaptureInterface{{Side: "v6", Name: "lan0"}, {Side: "v4", Name: "wan0"}}}, &fakeCapture{}, nil
}

type fakeCapture struct{ reads int }

func (*fakeCapture) Close() {}

func (f *fakeCapture) Read(ctx context.Context) ([]control.Captured, uint64, error) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)
	switch f.reads++; f.reads {
	case 1:
		return []control.Captured{{Time: at, Side: "v6", Comment: "6to4 received", Length: 5, Data: []byte("abc")}}, 0, nil
	case 2:
		return []control.Captured{{Time: at, Side: "v4", Comment: "6to4 sent", Length: 3, Data: []byte("def")}}, 7, nil
	}
	<-ctx.Done()
	return nil, 0, ctx.Err()
}
