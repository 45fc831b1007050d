package main_test

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

// Trace returns a trace of two packets.
func (fake) Trace(f control.TraceFilter) (control.Tracing, error) {
	for _, r := range f.Reasons {
		if r == "no_rout" {
			return nil, &control.Error{Message: `there is no drop reason "no_rout"`, Hint: "nat64ctl stats --all lists them"}
		}
	}
	return &fakeTrace{}, nil
}

func (fake) Capture(f control.TraceFilter) (control.Capturing, error) { return &fakeTrace{}, nil }

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

func (*fakeTrace) WriteTo(_ context.Context, w io.Writer, _ func() error) error {
	var b bytes.Buffer
	ng, err := pcapgo.NewNgWriter(&b, layers.LinkTypeRaw)
	if err == nil {
		err = ng.WritePacket(gopacket.CaptureInfo{CaptureLength: 3, Length: 3}, []byte("abc"))
	}
	if err == nil {
		err = ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{PacketsDropped: 7, PacketsReceived: pcapgo.NgNoValue64})
	}
	_ = ng.Flush() // to memory
	if err == nil {
		_, err = w.Write(b.Bytes())
	}
	return err
}
