package guard

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"nat64d/pool4"
)

// tableName is the name of our table, of family netdev.
const tableName = "nat64d"

// Names within the table.
const (
	pool4Set    = "pool4"    // address . protocol . port, guarded
	reservedSet = "reserved" // ports that we added to ip_local_reserved_ports
	notesSet    = "notes"    // interface, and in the comment what Keep was given of it
	bypassSet   = "bypass"   // with the number of a prefix: what is the host's of it
	chain4      = "ingress4"
	chain6      = "ingress6"
)

// Numbers of the sets within a transaction. Those that the library would choose come from an unguarded variable.
const (
	pool4ID = iota + 1
	reservedID
	notesID
	bypassID // and the numbers behind it
)

// Offsets in the headers that the rules look at.
const (
	etherTypeAt = 12
	ip4Daddr    = 16
	ip6Daddr    = 24
	transportTo = 2 // destination port, of TCP and UDP alike
)

// Registers: a concatenated key lies in consecutive ones of four bytes.
const (
	reg0 = unix.NFT_REG32_00
	reg1 = unix.NFT_REG32_01
	reg2 = unix.NFT_REG32_02
)

// elementsPerMessage keeps a list of elements below the 64 KiB of a netlink attribute.
const elementsPerMessage = 500

// sendBuffer holds the largest transaction: some hundred thousand elements.
const sendBuffer = 32 << 20

// transport returns the IP protocol number of an entry whose ports the host could answer for, 0 for ICMP.
func transport(e pool4.Entry) uint8 {
	switch e.Proto.String() {
	case "tcp":
		return unix.IPPROTO_TCP
	case "udp":
		return unix.IPPROTO_UDP
	}
	return 0
}

// table returns the table by name.
func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyNetdev}
}

// connect returns a connection to the nftables of this thread's namespace.
func connect() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return nil, fmt.Errorf("nftables: connect: %w", err)
	}
	return c, nil
}

// replaceTable replaces the table, if there is one, in one transaction.
func (g *Guard) replaceTable(added ports) error {
	c, err := connect()
	if err != nil {
		return err
	}
	t := table()
	c.AddTable(t) // a table that does not exist cannot be deleted
	c.DelTable(t)
	c.AddTable(t)
	if err := errors.Join(addReserved(c, t, added), g.addNotes(c, t)); err != nil {
		return wrap("describe table", err)
	}
	if g.indexes[1] != 0 {
		err = g.add4(c, t)
	}
	if g.indexes[0] != 0 {
		err = errors.Join(err, g.add6(c, t))
	}
	if err != nil {
		return wrap("describe table", err)
	}
	return wrap("install table", c.Flush())
}

// ingress adds the chain that sees frames of one interface before the host's stack does, but after the taps.
func ingress(c *nftables.Conn, t *nftables.Table, name, device string) *nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return c.AddChain(&nftables.Chain{
		Name:     name,
		Table:    t,
		Type:     nftables.ChainTypeFilter,
		Hooknum:  nftables.ChainHookIngress,
		Priority: nftables.ChainPriorityFilter,
		Policy:   &accept,
		Device:   device,
	})
}

// frame begins a rule with "ether type": it loads the type from the frame, and not what the kernel makes of it, which
// leaves the tagged frames of VLANs alone. They are not ours.
func frame(etherType uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFTYPE, Register: reg0}, // nft(8) writes this too, and reads the rest back only then
		&expr.Cmp{Register: reg0, Op: expr.CmpOpEq, Data: binaryutil.NativeEndian.PutUint16(unix.ARPHRD_ETHER)},
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseLLHeader, Offset: etherTypeAt, Len: 2},
		&expr.Cmp{Register: reg0, Op: expr.CmpOpEq, Data: binaryutil.BigEndian.PutUint16(etherType)},
	}
}

// dropped ends a rule.
func dropped() []expr.Any { return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}} }

// add4 adds the rule "ip daddr . meta l4proto . th dport @pool4 drop". Fragments but the first have no ports and
// pass, as they must: they may belong to the host. It never completes a datagram whose first one it did not see.
func (g *Guard) add4(c *nftables.Conn, t *nftables.Table) error {
	key, err := nftables.ConcatSetType(nftables.TypeIPAddr, nftables.TypeInetProto, nftables.TypeInetService)
	if err != nil {
		return err
	}
	set := &nftables.Set{Table: t, ID: pool4ID, Name: pool4Set, KeyType: key, Interval: true, Concatenation: true}
	if err := addSet(c, set, elements(g.pool4)); err != nil {
		return err
	}
	c.AddRule(&nftables.Rule{Table: t, Chain: ingress(c, t, chain4, g.o.V4), Exprs: slices.Concat(frame(unix.ETH_P_IP), []expr.Any{
		&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: ip4Daddr, Len: 4},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
		&expr.Payload{DestRegister: reg2, Base: expr.PayloadBaseTransportHeader, Offset: transportTo, Len: 2},
		&expr.Lookup{SourceRegister: reg0, SetName: set.Name, SetID: set.ID},
	}, dropped())})
	return nil
}

// addSet adds a set with its elements.
func addSet(c *nftables.Conn, set *nftables.Set, list []nftables.SetElement) error {
	if err := c.AddSet(set, nil); err != nil {
		return err
	}
	for some := range slices.Chunk(list, elementsPerMessage) {
		if err := c.SetAddElements(set, some); err != nil {
			return err
		}
	}
	return nil
}

// box is an element of the set: ports lo to hi of a protocol on the addresses first to last.
type box struct {
	first, last netip.Addr
	proto       uint8
	span
}

// boxes returns the TCP and UDP entries as few boxes that do not overlap, as the kernel wants them: ranges of one
// address are merged, then consecutive addresses with the same range.
func boxes(entries []pool4.Entry) []box {
	var list []box
	for _, e := range slices.SortedFunc(slices.Values(entries), pool4.Entry.Compare) {
		b := box{e.Addr, e.Addr, transport(e), span{e.Lo, e.Hi}}
		if b.proto == 0 {
			continue
		}
		if n := len(list); n > 0 && list[n-1].touches(b) {
			list[n-1].hi = max(list[n-1].hi, b.hi)
			continue
		}
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b box) int {
		return cmp.Or(cmp.Compare(a.proto, b.proto), cmp.Compare(a.lo, b.lo), cmp.Compare(a.hi, b.hi), a.first.Compare(b.first))
	})
	merged := list[:0]
	for _, b := range list {
		if n := len(merged); n > 0 && merged[n-1].precedes(b) {
			merged[n-1].last = b.last
			continue
		}
		merged = append(merged, b)
	}
	return merged
}

// touches says whether b, which begins no earlier, overlaps a or follows at once, on the same address.
func (a box) touches(b box) bool {
	return a.first == b.first && a.proto == b.proto && int(b.lo) <= int(a.hi)+1
}

// precedes says whether b is the same on the next address.
func (a box) precedes(b box) bool {
	return a.proto == b.proto && a.span == b.span && a.last.Next() == b.first
}

// elements returns the elements of the set for entries.
func elements(entries []pool4.Entry) []nftables.SetElement {
	var list []nftables.SetElement
	for _, b := range boxes(entries) {
		list = append(list, nftables.SetElement{
			Key:    elementKey(b.first, b.proto, b.lo),
			KeyEnd: elementKey(b.last, b.proto, b.hi),
		})
	}
	return list
}

// elementKey lays out a concatenated key: each part starts at a multiple of four bytes.
func elementKey(a netip.Addr, proto uint8, port uint16) []byte {
	k := make([]byte, 12)
	copy(k, a.AsSlice())
	k[4] = proto
	binary.BigEndian.PutUint16(k[8:], port)
	return k
}

// addReserved notes the ports that we add to the reserved ones.
func addReserved(c *nftables.Conn, t *nftables.Table, added ports) error {
	set := &nftables.Set{Table: t, ID: reservedID, Name: reservedSet, KeyType: nftables.TypeInetService, Interval: true,
		Comment: "added to net.ipv4.ip_local_reserved_ports"}
	return addSet(c, set, reservedElements(added))
}

// reservedElements returns ports as an interval set has them: the begin of each interval, and the port behind its end.
func reservedElements(p ports) []nftables.SetElement {
	var list []nftables.SetElement
	for _, s := range p.spans() {
		list = append(list, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(s.lo)})
		if s.hi < 1<<16-1 { // else the interval is open
			list = append(list, nftables.SetElement{Key: binaryutil.BigEndian.PutUint16(s.hi + 1), IntervalEnd: true})
		}
	}
	return list
}

// addedPorts reads the ports that we, or a process before us, added to the reserved ones, and whether there is a
// table at all.
func addedPorts() (added ports, exists bool, err error) {
	c, err := connect()
	if err != nil {
		return added, false, err
	}
	sets, err := tableSets(c)
	if err != nil || sets == nil {
		return added, false, err
	}
	i := slices.IndexFunc(sets, func(s *nftables.Set) bool { return s.Name == reservedSet })
	if i < 0 {
		return added, true, nil
	}
	list, err := c.GetSetElements(sets[i])
	if err != nil {
		return added, true, wrap("read table", err)
	}
	return intervals(list), true, nil
}

// intervals turns what reservedElements returns, in any order, back into ports.
func intervals(list []nftables.SetElement) ports {
	slices.SortFunc(list, func(a, b nftables.SetElement) int { return slices.Compare(a.Key, b.Key) })
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

// tableSets returns the sets of the table, nil if there is no table.
func tableSets(c *nftables.Conn) ([]*nftables.Set, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, wrap("find table", err)
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return nil, nil
	}
	sets, err := c.GetSets(table())
	if err != nil {
		return nil, wrap("read table", err)
	}
	if sets == nil { // a table of that name which is not ours
		sets = []*nftables.Set{}
	}
	return sets, nil
}

// tableIsWhole says whether the chains of all interfaces that existed at the last installation are there.
func (g *Guard) tableIsWhole() (bool, error) {
	c, err := connect()
	if err != nil {
		return false, err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return false, wrap("find chains of", err)
	}
	for i, name := range []string{chain6, chain4} {
		has := slices.ContainsFunc(chains, func(c *nftables.Chain) bool { return c.Table.Name == tableName && c.Name == name })
		if g.indexes[i] != 0 && !has {
			return false, nil
		}
	}
	return true, nil
}

// deleteTable deletes the table.
func deleteTable() error {
	c, err := connect()
	if err != nil {
		return err
	}
	c.DelTable(table())
	return wrap("delete table", c.Flush())
}
