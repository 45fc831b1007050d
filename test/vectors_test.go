package test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nat64d/config"
	"nat64d/packet"
	"nat64d/test/dissect"
)

// wireFile is a file of packets in and out; its README describes the fields.
type wireFile struct {
	Format  string
	Vectors []wireVector
}

type wireVector struct {
	ID, Title string
	Req       []string
	Config    struct {
		Pref64     []string
		Pool4      []netip.Addr
		MTU6, MTU4 uint32
		Lowest     int `json:"lowest_ipv6_mtu"`
		GW6, GW4   netip.Addr
		Strict     bool   `json:"wkp_strict"`
		Reporter   string `json:"icmp4_error_outer_src"`
	}
	BIB []struct {
		Proto  string
		V6, V4 netip.Addr
		P6, P4 uint16
	}
	Input struct {
		Side    string
		Packets []string
	}
	Expect struct {
		Action, Side string
		Compare      string
		Packets      []struct {
			Hex    string
			Ignore [][]any
		}
	}
}

func load(t *testing.T, name string, into any) {
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWireVectors(t *testing.T) {
	for _, name := range []string{"v6_to_v4.json", "v4_to_v6.json", "prefix_lengths.json", "icmp_errors_6to4.json", "icmp_errors_4to6.json", "hairpin.json", "fragments.json"} {
		var file wireFile
		load(t, name, &file)
		if len(file.Vectors) == 0 {
			t.Fatalf("%s holds no vectors", name)
		}
		for _, v := range file.Vectors {
			t.Run(v.ID, func(t *testing.T) {
				t.Parallel()
				v.run(t)
			})
		}
	}
}

var sideNames = map[string]packet.Family{"v6": packet.V6, "v4": packet.V4}

func (v *wireVector) run(t *testing.T) {
	v.check(t, v.setting(t).send(sideNames[v.Input.Side], v.packets(t)...))
}

// packets returns the packets that go in.
func (v *wireVector) packets(t *testing.T) (in [][]byte) {
	for _, p := range v.Input.Packets {
		in = append(in, unhex(t, p))
	}
	return in
}

// setting returns a gateway with the configuration and the bindings of the vector.
func (v *wireVector) setting(t *testing.T) *setting {
	routes := &plain{mtu6: v.Config.MTU6, mtu4: v.Config.MTU4, gw6: v.Config.GW6.As16(), gw4: v.Config.GW4.As4()}
	policy := config.PrivateV4Allow
	if v.Config.Strict {
		policy = config.PrivateV4Drop
	}
	s := newSetting(t, settingOptions{
		pool6: v.Config.Pref64, pool4: v.Config.Pool4, routes: routes, policy: policy, errors: 10, literal: v.Config.Reporter == "literal", lowest: v.Config.Lowest,
	})
	protos := map[string]packet.Proto{"tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP}
	for _, b := range v.BIB {
		s.bind(t, protos[b.Proto], netip.AddrPortFrom(b.V6, b.P6), netip.AddrPortFrom(b.V4, b.P4))
	}
	s.out.lenient = v.malformed(t)
	return s
}

// malformed reports whether a packet that goes in is wrong in itself: a translator keeps a wrong checksum as wrong as it was.
func (v *wireVector) malformed(t *testing.T) bool {
	return slices.ContainsFunc(v.Input.Packets, func(p string) bool {
		_, err := dissect.IP(unhex(t, p))
		return err != nil
	})
}

func (v *wireVector) check(t *testing.T, got []sent) {
	if v.Expect.Action == "drop" { // an ICMP error to the sender is permitted, a translation is not
		for _, g := range got {
			if g.side != sideNames[v.Input.Side] {
				t.Errorf("sent %x on side %v, want nothing", g.ip, g.side)
			}
		}
		return
	}
	if v.Expect.Compare == "reassembled" {
		v.checkWhole(t, got)
		return
	}
	if len(got) != len(v.Expect.Packets) {
		t.Fatalf("%d packets came out, want %d", len(got), len(v.Expect.Packets))
	}
	for i, want := range v.Expect.Packets {
		if got[i].side != sideNames[v.Expect.Side] {
			t.Errorf("packet %d left on side %v, want %v", i, got[i].side, v.Expect.Side)
		}
		w, g := unhex(t, want.Hex), bytes.Clone(got[i].ip)
		for _, ignore := range want.Ignore {
			at, n := int(ignore[0].(float64)), int(ignore[1].(float64))
			if at+n <= len(g) && at+n <= len(w) {
				copy(g[at:at+n], w[at:at+n])
			}
		}
		if !bytes.Equal(g, w) {
			t.Errorf("packet %d:\n got %x\nwant %x", i, g, w)
		}
	}
}

// checkWhole compares datagrams after reassembly.
func (v *wireVector) checkWhole(t *testing.T, got []sent) {
	var g, w [][]byte
	for _, s := range got {
		if s.side != sideNames[v.Expect.Side] {
			t.Errorf("a piece left on side %v", s.side)
		}
		if len(s.ip) > int(map[packet.Family]uint32{packet.V6: v.Config.MTU6, packet.V4: v.Config.MTU4}[s.side]) {
			t.Errorf("a piece of %d bytes is larger than the MTU", len(s.ip))
		}
		g = append(g, s.ip)
	}
	for _, p := range v.Expect.Packets {
		w = append(w, unhex(t, p.Hex))
	}
	a, b := join(t, g), join(t, w)
	if a[0]>>4 == 4 && len(v.Input.Packets) == 1 { // unfragmented input: the gateway chooses the Identification, which changes the checksum
		copy(a[4:6], b[4:6])
		copy(a[10:12], b[10:12])
	}
	if !bytes.Equal(a, b) {
		t.Errorf("\n got %x\nwant %x", a, b)
	}
}

// join reassembles a datagram.
func join(t *testing.T, pieces [][]byte) []byte {
	t.Helper()
	whole, err := dissect.Whole(pieces...)
	if err != nil {
		t.Fatal(err)
	}
	return whole
}
