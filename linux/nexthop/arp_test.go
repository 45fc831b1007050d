//go:build linux

package nexthop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"slices"
	"testing"

	"nat64d/packet"
)

var (
	gatewayMAC = [6]byte{0x02, 0x00, 0x64, 0x00, 0xaa, 0x01}
	otherMAC   = [6]byte{0x02, 0x00, 0x64, 0x00, 0xbb, 0x02}
)

// TestLinkVectors checks the replies to the requests of the vectors. LNK-01 and LNK-04 are about an address of an
// interface, for which the kernel answers; the packets have the same form.
func TestLinkVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/link.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct {
			ID     string   `json:"id"`
			Input  string   `json:"input_hex"`
			Expect []string `json:"expect_hex"`
		}
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	set := holding(packet.Addr4{192, 0, 2, 1}, packet.Addr4{203, 0, 113, 1})
	for _, v := range file.Vectors {
		in, err := hex.DecodeString(v.Input)
		if err != nil {
			t.Fatal(err)
		}
		q, _ := parseARP(in)
		reply, ok, _ := set.hear(q, epoch)
		switch {
		case ok != (len(v.Expect) == 1):
			t.Errorf("%s: answered: %v", v.ID, ok)
		case ok && hex.EncodeToString(reply.frame(nil, reply.targetMAC)) != v.Expect[0]:
			t.Errorf("%s: answered with %+v, want %s", v.ID, reply, v.Expect[0])
		}
	}
}

func TestParseAndReplyIgnoreOtherPackets(t *testing.T) {
	t.Parallel()
	ip := packet.Addr4{192, 0, 2, 1}
	request := arp{op: arpRequest, senderMAC: otherMAC, senderIP: packet.Addr4{192, 0, 2, 254}, targetIP: ip}
	own, reply := request, request
	own.senderMAC = gatewayMAC
	reply.op = arpReply
	for _, c := range []struct {
		what  string
		frame []byte
		want  bool
	}{
		{"a request", request.frame(nil, everyone), true},
		{"a padded request", append(request.frame(nil, everyone), make([]byte, 18)...), true},
		{"a truncated request", request.frame(nil, everyone)[:arpFrameLen-1], false},
		{"a request of our own", own.frame(nil, everyone), false},
		{"a reply", reply.frame(nil, everyone), false},
		{"an announcement of ours", func() []byte { a := announcement(ip, gatewayMAC); return a.frame(nil, everyone) }(), false},
		{"hardware type 6", corrupt(request, 1, 6), false},
		{"protocol type 0x86dd", corrupt(request, 2, 0x86), false},
		{"hardware length 8", corrupt(request, 4, 8), false},
		{"protocol length 16", corrupt(request, 5, 16), false},
		{"Ethernet type 0x8000", corrupt(request, -2, 0x80), false},
	} {
		q, _ := parseARP(c.frame)
		if _, ok, _ := holding(ip).hear(q, epoch); ok != c.want {
			t.Errorf("%s is answered: %v", c.what, ok)
		}
	}
}

// corrupt returns the frame of a with one byte of the ARP packet replaced.
func corrupt(a arp, at int, with byte) []byte {
	f := a.frame(nil, everyone)
	f[packet.EthLen+at] = with
	return f
}

func TestAnswerable(t *testing.T) {
	t.Parallel()
	s := &snapshot{
		hosts:   []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("203.0.113.9")},
		lost:    map[netip.Addr]bool{netip.MustParseAddr("192.0.2.3"): true},
		subnets: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/25")},
	}
	s.nics[v4].Index = 7
	var proxied []netip.Addr
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.0", "192.0.2.127", "192.0.2.128", "203.0.113.9", "2001:db8::1"} {
		proxied = append(proxied, netip.MustParseAddr(a))
	}
	for _, c := range []struct {
		mode AnswerARP
		want []packet.Addr4
	}{
		{ARPAuto, []packet.Addr4{{192, 0, 2, 2}}},
		{ARPOn, []packet.Addr4{{192, 0, 2, 2}, {192, 0, 2, 0}, {192, 0, 2, 127}, {192, 0, 2, 128}}},
		{ARPOff, nil},
	} {
		got := answerable(s, proxied, c.mode)
		if len(got) != len(c.want) {
			t.Errorf("%v: %v are answered for, want %v", c.mode, got, c.want)
		}
		for _, a := range c.want {
			if !slices.Contains(got, a) {
				t.Errorf("%v: %v is not answered for", c.mode, a)
			}
		}
	}
	s.subnets, s.lost = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/31")}, nil
	if got := answerable(s, []netip.Addr{netip.MustParseAddr("192.0.2.3")}, ARPAuto); len(got) != 1 {
		t.Errorf("a subnet of two addresses (RFC 3021) has no broadcast address, yet %v", got)
	}
}

func TestParseAnswerARP(t *testing.T) {
	t.Parallel()
	for _, m := range []AnswerARP{ARPAuto, ARPOn, ARPOff} {
		if got, err := ParseAnswerARP(m.String()); err != nil || got != m {
			t.Errorf("%v is read as %v, %v", m, got, err)
		}
	}
	if _, err := ParseAnswerARP("yes"); err == nil {
		t.Error("yes is accepted")
	}
}

func FuzzARP(f *testing.F) {
	request := arp{op: arpRequest, senderMAC: otherMAC, targetIP: packet.Addr4{192, 0, 2, 1}}
	f.Add(request.frame(nil, everyone))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseARP(b)
		if ok && !bytes.Equal(a.frame(nil, [6]byte(b))[12:], append(b[12:22:22], b[22:arpFrameLen]...)) {
			t.Errorf("%x is read as %+v", b, a)
		}
	})
}
