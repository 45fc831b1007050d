//go:build linux

package main

import (
	"net"
	"net/netip"
	"testing"

	"nat64d/test/dissect"
)

var (
	ends6 = flow{netip.MustParseAddrPort("[2001:db8:1::2]:2048"), netip.MustParseAddrPort("[64:ff9b::c000:202]:10000")}
	ends4 = flow{netip.MustParseAddrPort("192.0.2.2:10000"), netip.MustParseAddrPort("192.0.2.64:5000")}
	mac   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
)

func TestFrameIsValid(t *testing.T) {
	t.Parallel()
	for _, f := range []flow{ends6, ends4} {
		frame, err := f.frame(mac, mac)
		if err != nil {
			t.Fatal(err)
		}
		p, err := dissect.IP(frame[macLength:])
		if err != nil {
			t.Fatalf("%v: %v", f, err)
		}
		if p.Src != f.from || p.Dst != f.to || len(p.Payload) != dataSize {
			t.Errorf("frame of %v: from %v to %v with %d bytes", f, p.Src, p.Dst, len(p.Payload))
		}
		if r, ok := parseFrame(frame); !ok || r != (received{f.from, 1}) {
			t.Errorf("parseFrame = %v, %v, want one packet from %v", r, ok, f.from)
		}
	}
}

func TestParseFrameCountsSegments(t *testing.T) {
	t.Parallel()
	frame, err := ends4.frame(mac, mac)
	if err != nil {
		t.Fatal(err)
	}
	frame = append(frame, make([]byte, 2*dataSize)...)
	if r, ok := parseFrame(frame); !ok || r.packets != 3 {
		t.Errorf("parseFrame = %v, %v, want 3 packets", r, ok)
	}
}

func TestParseFrameIgnoresOtherTraffic(t *testing.T) {
	t.Parallel()
	other := flow{ends4.to, ends4.to}
	frame, err := other.frame(mac, mac)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"other ports": frame, "ARP": append(make([]byte, 12), 8, 6, 0, 1), "nothing": nil} {
		if r, ok := parseFrame(b); ok {
			t.Errorf("%s: parseFrame = %v, want nothing", name, r)
		}
	}
}

func TestOrderRepeatsFramesInRuns(t *testing.T) {
	t.Parallel()
	o := order{frames: [][]byte{{0}, {1}, {2}}}
	for _, tt := range []struct {
		run  int
		want string
	}{{0, "01201201"}, {1, "01201201"}, {2, "00112200"}} {
		o.run = tt.run
		got := ""
		for n := range len(tt.want) {
			got += string('0' + o.at(n)[0])
		}
		if got != tt.want {
			t.Errorf("runs of %d: %s, want %s", tt.run, got, tt.want)
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	for _, e := range []flow{ends6, ends4} {
		frame, err := e.frame(mac, mac)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := parseFrame(b); ok && (r.packets < 1 || r.packets*dataSize > len(b)) {
			t.Errorf("%d packets in %d bytes", r.packets, len(b))
		}
	})
}
