//go:build linux

package nexthop

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// policyBytes builds an XFRM_MSG_NEWPOLICY for IPv4 packets to 192.0.2.0/24, with attributes.
func policyBytes(dir, action uint8, change func(*nl.XfrmUserpolicyInfo), attrs ...[]byte) []byte {
	info := nl.XfrmUserpolicyInfo{Dir: dir, Action: action}
	info.Sel.Family, info.Sel.PrefixlenD = unix.AF_INET, 24
	copy(info.Sel.Daddr[:], []byte{192, 0, 2, 0})
	if change != nil {
		change(&info)
	}
	b := append([]byte(nil), info.Serialize()...)
	for _, a := range attrs {
		b = append(b, a...)
	}
	return b
}

func template(optional uint8) []byte {
	return attribute(nl.XFRMA_TMPL, (&nl.XfrmUserTmpl{Optional: optional}).Serialize()...)
}

func mark(value, mask uint32) []byte {
	return attribute(nl.XFRMA_MARK, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, value), mask)...)
}

// TestIPsecPolicies looks up one UDP packet from 198.51.100.7 port 4000 to 192.0.2.9 port 53 among policies, the last
// of which is the newest.
func TestIPsecPolicies(t *testing.T) {
	t.Parallel()
	const out, fwd, in = xfrmPolicyOut, xfrmPolicyFwd, 0
	type info = nl.XfrmUserpolicyInfo
	port := func(p uint16) uint16 { return nl.Swap16(p) }
	priority := func(p uint32) func(*info) { return func(i *info) { i.Priority = p } }
	esp, use := template(0), template(1)
	type list [][]byte
	for _, c := range []struct {
		name    string
		list    list
		blocked [2]bool
		want    bool
	}{
		{"none", nil, [2]bool{}, false},
		{"to be encrypted", list{policyBytes(out, 0, nil, esp)}, [2]bool{}, true},
		{"encrypted if possible", list{policyBytes(out, 0, nil, use)}, [2]bool{}, true},
		{"blocked", list{policyBytes(out, 1, nil)}, [2]bool{}, true},
		{"allowed", list{policyBytes(out, 0, nil)}, [2]bool{}, false},
		{"only what was encrypted is forwarded", list{policyBytes(fwd, 0, nil, esp)}, [2]bool{}, true},
		{"unencrypted packets are also forwarded", list{policyBytes(fwd, 0, nil, use)}, [2]bool{}, false},
		{"not forwarded", list{policyBytes(fwd, 1, nil)}, [2]bool{}, true},
		{"what the host receives", list{policyBytes(in, 1, nil, esp)}, [2]bool{}, false},
		{"another destination", list{policyBytes(out, 1, func(i *info) { i.Sel.Daddr[2] = 3 })}, [2]bool{}, false},
		{"another source", list{policyBytes(out, 1, func(i *info) { i.Sel.PrefixlenS = 8 })}, [2]bool{}, false},
		{"this source", list{policyBytes(fwd, 1, func(i *info) { i.Sel.PrefixlenS = 32; copy(i.Sel.Saddr[:], []byte{198, 51, 100, 7}) })}, [2]bool{}, true},
		{"this protocol", list{policyBytes(out, 1, func(i *info) { i.Sel.Proto = 17 })}, [2]bool{}, true},
		{"another protocol", list{policyBytes(out, 1, func(i *info) { i.Sel.Proto = 6 })}, [2]bool{}, false},
		{"this port", list{policyBytes(out, 1, func(i *info) { i.Sel.Dport, i.Sel.DportMask = port(53), 0xffff })}, [2]bool{}, true},
		{"another port", list{policyBytes(out, 1, func(i *info) { i.Sel.Dport, i.Sel.DportMask = port(54), 0xffff })}, [2]bool{}, false},
		{"these source ports", list{policyBytes(out, 1, func(i *info) { i.Sel.Sport, i.Sel.SportMask = port(4096), port(0xf000) })}, [2]bool{}, false},
		{"this interface", list{policyBytes(out, 1, func(i *info) { i.Sel.Ifindex = 7 })}, [2]bool{}, true},
		{"another interface", list{policyBytes(out, 1, func(i *info) { i.Sel.Ifindex = 8 })}, [2]bool{}, false},
		{"a mark", list{policyBytes(out, 1, nil, mark(1, 1))}, [2]bool{}, false},
		{"no mark", list{policyBytes(out, 1, nil, mark(0, 1))}, [2]bool{}, true},
		{"a virtual interface", list{policyBytes(out, 1, nil, attribute(nl.XFRMA_IF_ID, 1, 0, 0, 0))}, [2]bool{}, false},
		{"exempt by priority", list{policyBytes(out, 1, priority(2)), policyBytes(out, 0, priority(1))}, [2]bool{}, false},
		{"not exempt by priority", list{policyBytes(out, 1, priority(1)), policyBytes(out, 0, priority(2))}, [2]bool{}, true},
		{"exempt by age", list{policyBytes(out, 0, nil), policyBytes(out, 1, func(i *info) { i.Sel.PrefixlenD = 16 })}, [2]bool{}, false},
		{"not exempt by age", list{policyBytes(out, 1, func(i *info) { i.Sel.PrefixlenD = 16 }), policyBytes(out, 0, nil)}, [2]bool{}, true},
		{"exempt in one direction only", list{policyBytes(out, 0, nil), policyBytes(fwd, 1, nil)}, [2]bool{}, true},
		{"with a sub-policy", list{policyBytes(out, 0, nil), policyBytes(out, 1, priority(9), attribute(xfrmaPolicyType, 1, 0, 0, 0, 0, 0))}, [2]bool{}, true},
		{"nothing without a policy", nil, [2]bool{true, false}, true},
		{"nothing forwarded without a policy", nil, [2]bool{false, true}, true},
		{"with a policy", list{policyBytes(out, 0, nil)}, [2]bool{true, false}, false},
	} {
		var messages []policyMessage
		for _, b := range c.list {
			m, ok := parsePolicy(b)
			if !ok {
				t.Fatalf("%s: malformed", c.name)
			}
			messages = append([]policyMessage{m}, messages...)
		}
		f := packet.Selector4{Src: [4]byte{198, 51, 100, 7}, Dst: [4]byte{192, 0, 2, 9}, SrcPort: 4000, DstPort: 53, Proto: 17}
		of := flow4(&f)
		sides := newIPsec(messages, c.blocked)
		if got := sides[v4].refuses(&of, 7); got != c.want {
			t.Errorf("%s: refused %v, want %v", c.name, got, c.want)
		}
		if sides[v6] != nil && c.blocked == [2]bool{} {
			t.Errorf("%s: a policy for IPv4 applies to IPv6", c.name)
		}
		of.origin = packet.FromHost
		if c.want && (len(c.list) == 1 && c.list[0][nl.SizeofXfrmUserpolicyInfo-8] == fwd || c.blocked[1]) && sides[v4].refuses(&of, 7) {
			t.Errorf("%s: a packet that the host itself originates is refused by a policy for forwarding", c.name)
		}
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(policyBytes(1, 0, nil, template(0), mark(0, 1)))
	f.Add(policyBytes(2, 1, nil, attribute(nl.XFRMA_IF_ID, 1, 0, 0, 0)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parsePolicy(b)
		if !ok {
			return
		}
		if !m.src.IsValid() || m.dst != m.dst.Masked() || m.list >= ipsecLists {
			t.Errorf("%x is read as %+v", b, m)
		}
		for d, i := range newIPsec([]policyMessage{m}, [2]bool{}) {
			src := netip.IPv6Unspecified()
			if side(d) == v4 {
				src = netip.IPv4Unspecified()
			}
			i.refuses(&flow{src: src, dst: src}, 7)
		}
	})
}
