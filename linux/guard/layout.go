//go:build linux

package guard

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the name of the guard's table, in family netdev.
const tableName = "nat64d"

// Names of the objects in the table.
const (
	pool4Set    = "pool4"    // covered address . protocol . port
	pool6Set    = "pool6"    // covered IPv6 destinations
	reservedSet = "reserved" // ports that the guard added to ip_local_reserved_ports
	notesSet    = "notes"    // interface; the comment contains the note from Keep

	ingress4 = "ingress4" // base chain of the v4 interface: selects IPv4 packets
	ingress6 = "ingress6" // base chain of the v6 interface
	covered4 = "covered4" // drops covered IPv4 packets
	covered6 = "covered6"
	echo4    = "echo4" // drops echo requests with Identifiers of static bindings
)

// Numbers of the sets within a transaction. The library would take them from an unsynchronized global variable.
const (
	pool4ID = iota + 1
	pool6ID
	reservedID
	notesID
)

// Offsets of header fields that the rules read.
const (
	etherTypeAt = 12 // in the frame
	tagAt       = 14
	tagTypeAt   = 16
	ip4Daddr    = 16 // in the IP header
	ip6Daddr    = 24
	transportTo = 2 // destination port of TCP and UDP
	icmpTypeAt  = 0
	icmpIDAt    = 4

	echoRequestType = 8
)

// Registers. A concatenated key uses consecutive registers of four bytes. When the kernel lists a rule, it replaces
// the first of four by the register of 16 bytes that contains them; the rules use these numbers, so that they compare
// equal.
const (
	reg0 = unix.NFT_REG_1
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
)

// table returns the guard's table.
func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}
}

// layout is the wanted or the actual state of the table.
type layout struct {
	exists   bool
	flags    uint32
	chains   map[string]chain
	sets     map[string]*nftables.Set
	elements map[string][]nftables.SetElement
}

// chain is a chain with its rules. device is empty unless it is a base chain.
type chain struct {
	device   string
	kind     string
	hook     nftables.ChainHook
	priority nftables.ChainPriority
	policy   nftables.ChainPolicy
	rules    [][]expr.Any
}

// layout returns the wanted state.
func (g *Guard) layout(added ports) *layout {
	l := &layout{exists: true, chains: map[string]chain{}, sets: map[string]*nftables.Set{}, elements: map[string][]nftables.SetElement{}}
	l.addSet(reservedID, reservedSet, nftables.TypeInetService, reservedElements(added))
	l.sets[reservedSet].Comment = "added to net.ipv4.ip_local_reserved_ports"
	l.addSet(notesID, notesSet, nftables.TypeIFIndex, noteElements(g.notes))
	l.sets[notesSet].Interval, l.sets[notesSet].KeyByteOrder = false, binaryutil.NativeEndian
	l.sets[notesSet].Comment = "what nat64d has to put back"
	key := nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	l.addSet(pool4ID, pool4Set, key, boxElements(g.cover.transport))
	l.sets[pool4Set].Concatenation = true
	l.addSet(pool6ID, pool6Set, nftables.TypeIP6Addr, spanElements(g.cover.spans))
	l.sets[pool4Set].HasTimeout, l.sets[pool6Set].HasTimeout = true, true // see Leave

	l.chains[covered4] = chain{rules: rules4()}
	l.chains[covered6] = chain{rules: rules6()}
	l.chains[echo4] = chain{rules: echoRules(g.cover.echo)}
	if g.indexes[1] != 0 {
		l.chains[ingress4] = ingress(g.o.V4, g.o.All4, unix.ETH_P_IP, covered4)
	}
	if g.indexes[0] != 0 {
		l.chains[ingress6] = ingress(g.o.V6, g.o.All6, unix.ETH_P_IPV6, covered6)
	}
	return l
}

// expire gives the covered addresses a timeout. A rule cannot have one, so it removes those for echo requests.
func (l *layout) expire(d time.Duration) {
	for _, name := range []string{pool4Set, pool6Set} {
		for i := range l.elements[name] {
			if e := &l.elements[name][i]; !e.IntervalEnd { // the kernel removes the end of an interval with its start
				e.Timeout = d
			}
		}
	}
	l.chains[echo4] = chain{}
}

// addSet adds an interval set.
func (l *layout) addSet(id uint32, name string, key nftables.SetDatatype, list []nftables.SetElement) {
	l.sets[name] = &nftables.Set{Table: table(), ID: id, Name: name, KeyType: key, Interval: true}
	l.elements[name] = list
}

// ingress returns a base chain that processes the frames of an interface after packet sockets and before the host's
// stack. It jumps to another chain for packets of one family, untagged or in a priority-tagged frame (VLAN ID 0),
// because the host accepts both. Frames of a VLAN are not for the gateway. With all, it drops every frame.
func ingress(device string, all bool, etherType uint16, covered string) chain {
	c := chain{device: device, kind: string(nftables.ChainTypeFilter), hook: *nftables.ChainHookIngress,
		priority: *nftables.ChainPriorityFilter, policy: nftables.ChainPolicyAccept}
	if all {
		c.rules = [][]expr.Any{dropped()}
		return c
	}
	typeAt := func(offset uint32, etherType uint16) []expr.Any {
		return []expr.Any{load(expr.PayloadBaseLLHeader, offset, 2, reg0), equal(binaryutil.BigEndian.PutUint16(etherType))}
	}
	// nft(8) also writes this expression, and can only list the others after it.
	ether := []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: reg0}, equal(binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER))}
	to := []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: covered}}
	noVLAN := []expr.Any{
		load(expr.PayloadBaseLLHeader, tagAt, 2, reg0),
		&expr.Bitwise{SourceRegister: reg0, DestRegister: reg0, Len: 2, Mask: []byte{0x0f, 0xff}, Xor: []byte{0, 0}},
		equal([]byte{0, 0}),
	}
	c.rules = append(c.rules, slices.Concat(ether, typeAt(etherTypeAt, etherType), to))
	for _, tag := range []uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD} {
		c.rules = append(c.rules, slices.Concat(ether, typeAt(etherTypeAt, tag), noVLAN, typeAt(tagTypeAt, etherType), to))
	}
	return c
}

// rules4 returns "icmp type echo-request goto echo4" and "ip daddr . meta l4proto . th dport @pool4 drop". Fragments
// other than the first have no ports and must pass: they may be for the host. The host never completes a datagram
// whose first fragment was dropped.
func rules4() [][]expr.Any {
	return [][]expr.Any{
		slices.Concat(family(unix.ETH_P_IP), echoRequest(), []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: echo4}}),
		slices.Concat(family(unix.ETH_P_IP), []expr.Any{
			load(expr.PayloadBaseNetworkHeader, ip4Daddr, 4, reg0),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
			load(expr.PayloadBaseTransportHeader, transportTo, 2, reg2),
			&expr.Lookup{SourceRegister: reg0, SetName: pool4Set, SetID: pool4ID},
		}, dropped()),
	}
}

// rules6 returns "ip6 daddr @pool6 drop".
func rules6() [][]expr.Any {
	return [][]expr.Any{slices.Concat(family(unix.ETH_P_IPV6), []expr.Any{
		load(expr.PayloadBaseNetworkHeader, ip6Daddr, 16, reg0),
		&expr.Lookup{SourceRegister: reg0, SetName: pool6Set, SetID: pool6ID},
	}, dropped())}
}

// echoRules returns a rule "icmp type echo-request ip daddr A icmp id I drop" for each box. They cannot be one set:
// nft(8) has no name for the type of an Identifier and could not list it.
func echoRules(boxes []box) (rules [][]expr.Any) {
	for _, b := range boxes {
		rules = append(rules, slices.Concat(family(unix.ETH_P_IP), echoRequest(),
			[]expr.Any{load(expr.PayloadBaseNetworkHeader, ip4Daddr, 4, reg0), within(b.first.AsSlice(), b.last.AsSlice())},
			[]expr.Any{
				load(expr.PayloadBaseTransportHeader, icmpIDAt, 2, reg0),
				within(binaryutil.BigEndian.PutUint16(b.lo), binaryutil.BigEndian.PutUint16(b.hi)),
			}, dropped()))
	}
	return rules
}

// family returns the beginning of a rule in a chain that is not bound to an interface.
func family(etherType uint16) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyPROTOCOL, Register: reg0}, equal(binaryutil.BigEndian.PutUint16(etherType))}
}

func echoRequest() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg0}, equal([]byte{unix.IPPROTO_ICMP}),
		load(expr.PayloadBaseTransportHeader, icmpTypeAt, 1, reg0), equal([]byte{echoRequestType}),
	}
}

func load(base expr.PayloadBase, offset, n, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: n}
}

func equal(data []byte) expr.Any { return &expr.Cmp{Register: reg0, Op: expr.CmpOpEq, Data: data} }

// within returns a comparison with a range, both ends included.
func within(first, last []byte) expr.Any {
	if bytes.Equal(first, last) {
		return equal(first)
	}
	return &expr.Range{Register: reg0, Op: expr.CmpOpEq, FromData: first, ToData: last}
}

// dropped returns the end of a rule that counts and drops.
func dropped() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

// boxElements returns the elements of a set for boxes.
func boxElements(boxes []box) (list []nftables.SetElement) {
	for _, b := range boxes {
		list = append(list, nftables.SetElement{Key: elementKey(b.first, b.proto, b.lo), KeyEnd: elementKey(b.last, b.proto, b.hi)})
	}
	return list
}

// elementKey encodes a concatenated key: each field starts at a multiple of four bytes.
func elementKey(a netip.Addr, proto uint8, port uint16) []byte {
	k := make([]byte, 12)
	copy(k, a.AsSlice())
	k[4] = proto
	binary.BigEndian.PutUint16(k[8:], port)
	return k
}

// spanElements returns ranges as elements of an interval set: the first address of each, and the address after its
// last. That address exists, because a NAT64 prefix is not multicast and so does not contain the last IPv6 address.
func spanElements(spans []span6) (list []nftables.SetElement) {
	for _, s := range spans {
		list = append(list,
			nftables.SetElement{Key: s.first.AsSlice()},
			nftables.SetElement{Key: s.last.Next().AsSlice(), IntervalEnd: true})
	}
	return list
}

// reservedElements returns ports as elements of an interval set.
func reservedElements(p ports) (list []nftables.SetElement) {
	for _, s := range p.spans() {
		list = append(list, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(s.lo)})
		if s.hi < 1<<16-1 { // otherwise the interval is open
			list = append(list, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(s.hi + 1), IntervalEnd: true})
		}
	}
	return list
}

// noteElements returns notes as elements of a set.
func noteElements(notes map[int]string) (list []nftables.SetElement) {
	for _, index := range slices.Sorted(maps.Keys(notes)) {
		list = append(list, nftables.SetElement{Key: binaryutil.NativeEndian.PutUint32(uint32(index)), Comment: notes[index]})
	}
	return list
}

// intervals converts elements of reservedElements, in any order, to ports.
func intervals(list []nftables.SetElement) ports {
	list = slices.SortedFunc(slices.Values(list), func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
	var p ports
	for i, e := range list {
		if e.IntervalEnd || len(e.Key) < 2 {
			continue
		}
		lo, hi := binary.BigEndian.Uint16(e.Key), uint16(1<<16-1)
		if i+1 < len(list) && len(list[i+1].Key) >= 2 {
			hi = binary.BigEndian.Uint16(list[i+1].Key) - 1
		}
		p.add(lo, hi)
	}
	return p
}
