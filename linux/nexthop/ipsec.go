//go:build linux

package nexthop

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// Constants of linux/xfrm.h that the library lacks.
const (
	xfrmPolicyOut   = 1
	xfrmPolicyFwd   = 2
	xfrmPolicySub   = 1 // a policy of this type applies in addition to those of the main type
	xfrmaPolicyType = 16
	xfrmGetDefault  = 0x28 // XFRM_MSG_GETDEFAULT, Linux 5.15
	xfrmBlock       = 1
)

// ipsec contains the IPsec policies (ip-xfrm(8)) for packets that leave on one side. The kernel would encrypt or drop
// such packets; nat64d would send them unencrypted.
type ipsec struct {
	lists   [ipsecLists]policyList
	blocked [2]bool // by direction, out first: packets without a matching policy are dropped
	fields  fields  // the fields of a flow that the policies match
}

// The lists: two for each direction, with the policies of the main type and of the sub type. Both types apply.
const (
	outMain = iota
	outSub
	fwdMain
	fwdSub
	ipsecLists
)

// policyList is an index of policies by the prefix of one end: by destination for direction out, by source for fwd,
// because that is where the policies of a gateway differ.
type policyList struct {
	byPrefix bart.Table[[]ipsecPolicy] // each slice in order of precedence
	bySource bool
}

// ipsecPolicy is one policy.
type ipsecPolicy struct {
	src, dst     netip.Prefix
	sport, dport maskedPort
	proto        uint8 // 0: any
	ifindex      int   // outgoing interface; 0: any
	priority     uint32
	age          int  // of two policies with the same priority, the older one applies
	refuses      bool // it blocks or encrypts packets
}

// maskedPort is a port and the mask of its significant bits.
type maskedPort struct{ port, mask uint16 }

func (m maskedPort) matches(port uint16) bool { return (m.port^port)&m.mask == 0 }

// matches reports whether p applies to f on the interface index.
func (p *ipsecPolicy) matches(f *flow, index int) bool {
	return (p.proto == 0 || p.proto == f.proto) && (p.ifindex == 0 || p.ifindex == index) &&
		p.src.Contains(f.src) && p.dst.Contains(f.dst) && p.sport.matches(f.sport) && p.dport.matches(f.dport)
}

// before compares policies by precedence.
func (p *ipsecPolicy) before(o *ipsecPolicy) int {
	return cmp.Or(cmp.Compare(p.priority, o.priority), cmp.Compare(p.age, o.age))
}

// fields returns the fields that p matches.
func (p *ipsecPolicy) fields() (n fields) {
	if p.src.Bits() > 0 {
		n |= fieldSource
	}
	if p.sport.mask != 0 || p.dport.mask != 0 {
		n |= fieldPorts | fieldProto
	}
	if p.proto != 0 {
		n |= fieldProto
	}
	return n
}

// refuses reports whether f must not be sent. The kernel does not forward packets that the host itself originates, so
// only direction out applies to them. i may be nil.
func (i *ipsec) refuses(f *flow, index int) bool {
	if i == nil {
		return false
	}
	return i.refusesAs(outMain, f, index) || f.origin != packet.FromHost && i.refusesAs(fwdMain, f, index)
}

// refusesAs checks the two lists of a direction.
func (i *ipsec) refusesAs(list int, f *flow, index int) bool {
	main, sub := i.lists[list].find(f, index), i.lists[list+1].find(f, index)
	if main == nil && sub == nil {
		return i.blocked[list/fwdMain]
	}
	return main != nil && main.refuses || sub != nil && sub.refuses
}

// find returns the policy that applies to f, or nil.
func (l *policyList) find(f *flow, index int) (best *ipsecPolicy) {
	if l.byPrefix.Size() == 0 {
		return nil
	}
	end := f.dst
	if l.bySource {
		end = f.src
	}
	for _, list := range l.byPrefix.Supernets(netip.PrefixFrom(end, end.BitLen())) {
		for n := range list {
			if best != nil && best.before(&list[n]) < 0 {
				break
			}
			if list[n].matches(f, index) {
				best = &list[n]
				break
			}
		}
	}
	return best
}

// policyMessage is an XFRM_MSG_NEWPOLICY message.
type policyMessage struct {
	ipsecPolicy
	list int // index in ipsec.lists; -1: it does not apply to forwarded packets
}

// parsePolicy parses a struct xfrm_userpolicy_info and its attributes. It returns false if the message is malformed
// or of another family.
func parsePolicy(b []byte) (policyMessage, bool) {
	if len(b) < nl.SizeofXfrmUserpolicyInfo {
		return policyMessage{}, false
	}
	info := *nl.DeserializeXfrmUserpolicyInfo(b)
	m := policyMessage{list: -1, ipsecPolicy: ipsecPolicy{
		proto: info.Sel.Proto, ifindex: int(info.Sel.Ifindex), priority: info.Priority,
		sport: maskedPort{bits.ReverseBytes16(info.Sel.Sport), bits.ReverseBytes16(info.Sel.SportMask)},
		dport: maskedPort{bits.ReverseBytes16(info.Sel.Dport), bits.ReverseBytes16(info.Sel.DportMask)},
	}}
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 { // the library parses network order as host order
		m.sport, m.dport = maskedPort{info.Sel.Sport, info.Sel.SportMask}, maskedPort{info.Sel.Dport, info.Sel.DportMask}
	}
	var ok1, ok2 bool
	m.src, ok1 = selectorPrefix(info.Sel.Family, info.Sel.Saddr, info.Sel.PrefixlenS)
	m.dst, ok2 = selectorPrefix(info.Sel.Family, info.Sel.Daddr, info.Sel.PrefixlenD)
	var t policyAttributes
	if !ok1 || !ok2 || !attributes(b[nl.SizeofXfrmUserpolicyInfo:], t.attribute) {
		return policyMessage{}, false
	}
	m.refuses = info.Action != uint8(netlink.XFRM_POLICY_ALLOW)
	switch {
	case t.foreign:
		return m, true
	case info.Dir == xfrmPolicyOut:
		m.list, m.refuses = outMain, m.refuses || t.templates > 0
	case info.Dir == xfrmPolicyFwd:
		m.list, m.refuses = fwdMain, m.refuses || t.required > 0
	default:
		return m, true
	}
	if t.sub {
		m.list++
	}
	return m, true
}

// selectorPrefix returns the prefix of one end of a selector.
func selectorPrefix(family uint16, a nl.XfrmAddress, length uint8) (netip.Prefix, bool) {
	var addr netip.Addr
	switch family {
	case unix.AF_INET:
		addr = netip.AddrFrom4([4]byte(a[:4]))
	case unix.AF_INET6:
		addr = netip.AddrFrom16(a)
	}
	p, err := addr.Prefix(int(length))
	return p, err == nil && addr.IsValid()
}

// policyAttributes are the parsed attributes of a policy.
type policyAttributes struct {
	templates, required int
	foreign             bool // for packets with a mark, or of a virtual IPsec interface
	sub                 bool
}

// attribute parses one attribute of a policy. Forwarded packets carry no mark, so a mark matches if its masked bits
// are zero.
func (t *policyAttributes) attribute(kind uint16, v []byte) {
	switch kind {
	case nl.XFRMA_TMPL:
		for ; len(v) >= nl.SizeofXfrmUserTmpl; v = v[nl.SizeofXfrmUserTmpl:] {
			t.templates++
			if nl.DeserializeXfrmUserTmpl(v).Optional == 0 {
				t.required++
			}
		}
	case nl.XFRMA_MARK:
		t.foreign = t.foreign || number(v) != 0
	case nl.XFRMA_IF_ID:
		t.foreign = t.foreign || number(v) != 0
	case xfrmaPolicyType:
		t.sub = first(v) == xfrmPolicySub
	}
}

// newIPsec sorts policies, newest first, by the outgoing side of their packets. A side on which nothing is refused is
// nil.
func newIPsec(list []policyMessage, blocked [2]bool) (sides [sides]*ipsec) {
	for d := range sides {
		i := &ipsec{blocked: blocked}
		i.lists[fwdMain].bySource, i.lists[fwdSub].bySource = true, true
		refuses := blocked[0] || blocked[1]
		for n := range list {
			if m := &list[n]; m.list >= 0 && m.dst.Addr().Is4() == (side(d) == v4) {
				m.age = -n
				i.add(m)
				refuses = refuses || m.refuses
			}
		}
		if refuses {
			sides[d] = i
		}
	}
	return sides
}

// add adds a policy to its list.
func (i *ipsec) add(m *policyMessage) {
	l, p := &i.lists[m.list], m.dst
	if l.bySource {
		p = m.src
	}
	i.fields |= m.fields() | fieldOrigin
	l.byPrefix.Modify(p, func(old []ipsecPolicy, _ bool) ([]ipsecPolicy, bool) {
		n, _ := slices.BinarySearchFunc(old, m.ipsecPolicy, func(e, p ipsecPolicy) int { return e.before(&p) })
		return slices.Insert(old, n, m.ipsecPolicy), false
	})
}

// ipsec reads the IPsec policies of both sides.
func (k *kernel) ipsec() ([sides]*ipsec, error) {
	if k.xfrm == nil {
		return [sides]*ipsec{}, nil
	}
	var list []policyMessage
	req := nl.NewNetlinkRequest(nl.XFRM_MSG_GETPOLICY, unix.NLM_F_DUMP)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_XFRM: k.xfrm}
	err := req.ExecuteIter(unix.NETLINK_XFRM, nl.XFRM_MSG_NEWPOLICY, func(b []byte) bool {
		if m, ok := parsePolicy(b); ok {
			list = append(list, m)
		}
		return true
	})
	if errors.Is(err, unix.EPERM) { // without CAP_NET_ADMIN
		k.blind = true
		return [sides]*ipsec{}, nil
	}
	if err := k.listed("IPsec policies", err); err != nil {
		return [sides]*ipsec{}, err
	}
	return newIPsec(list, k.ipsecDefaults()), nil
}

// ipsecDefaults returns whether packets without a matching policy are blocked (ip xfrm policy setdefault). Kernels
// without this setting allow them.
func (k *kernel) ipsecDefaults() (blocked [2]bool) {
	req := nl.NewNetlinkRequest(xfrmGetDefault, 0)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_XFRM: k.xfrm}
	req.AddRawData(make([]byte, 4)) // struct xfrm_userpolicy_default: in, fwd, out
	_ = req.ExecuteIter(unix.NETLINK_XFRM, xfrmGetDefault, func(b []byte) bool {
		if len(b) >= 3 {
			blocked = [2]bool{b[2] == xfrmBlock, b[1] == xfrmBlock}
		}
		return true
	})
	return blocked
}

// subscribeIPsec opens a socket that receives changes of IPsec policies. It returns nil on a kernel without IPsec and
// in a process that may not read the policies.
func subscribeIPsec() (*nl.NetlinkSocket, error) {
	s, err := nl.Subscribe(unix.NETLINK_XFRM, nl.XFRMNLGRP_POLICY)
	switch {
	case withoutIPsec(err), errors.Is(err, unix.EPERM): // reported by Table.Blind
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("netlink: subscribe to IPsec policies: %w", err)
	}
	return s, nil
}

// withoutIPsec reports whether err means that the kernel has no IPsec.
func withoutIPsec(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)
}
