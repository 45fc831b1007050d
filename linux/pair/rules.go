//go:build linux

package pair

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// tableName is the name of our table, in family inet.
const tableName = "nat64d"

// Names of the chains.
const (
	masqueradeChain = "postrouting"
	uplinkChain     = "forward"
)

// Rules are what the host's stack has to do with packets of the pairs. The zero value stands for nothing.
type Rules struct {
	Masquerade []netip.Prefix // IPv4 sources that get the address of the interface by which they leave
	Inside     string         // the host's end of the IPv4 pair, through which packets leave without that
	Refuse     []string       // interfaces of the Internet, from which nothing is forwarded to To
	To         string         // the host's end of the IPv6 pair
}

// table returns our table.
func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// Ensure makes our table what r describes, in one transaction, and reports whether it was something else. An empty table is deleted.
func (r *Rules) Ensure() (changed bool, err error) {
	want := r.chains()
	have, err := read()
	if len(want) == 0 && err != nil {
		return false, nil // no nf_tables, and no need of them
	}
	if err != nil || same(have, want) {
		return false, wrapRules(err)
	}
	c, err := nftables.New()
	if err != nil {
		return false, wrapRules(err)
	}
	c.AddTable(table()) // deleting a table that does not exist would fail
	c.DelTable(table())
	if len(want) > 0 {
		t := c.AddTable(table())
		for _, ch := range want {
			ch.chain.Table = t
			added := c.AddChain(ch.chain)
			for _, e := range ch.rules {
				c.AddRule(&nftables.Rule{Table: t, Chain: added, Exprs: e})
			}
		}
	}
	return true, wrapRules(c.Flush())
}

// Remove deletes our table. Without one, or without nf_tables, it does nothing.
func (*Rules) Remove() error {
	c, err := nftables.New()
	if err != nil {
		return wrapRules(err)
	}
	c.AddTable(table())
	c.DelTable(table())
	if err := c.Flush(); !errors.Is(err, unix.EOPNOTSUPP) {
		return wrapRules(err)
	}
	return nil
}

// chain is a chain with its rules.
type chain struct {
	chain *nftables.Chain
	rules [][]expr.Any
}

// chains returns the chains in the order of their names.
func (r *Rules) chains() (list []chain) {
	accept := nftables.ChainPolicyAccept
	if len(r.Refuse) > 0 {
		c := chain{chain: &nftables.Chain{Name: uplinkChain, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityFilter, Policy: &accept}}
		for _, name := range r.Refuse {
			c.rules = append(c.rules, slices.Concat(
				[]expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, interfaceIs(expr.CmpOpEq, name)},
				[]expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, interfaceIs(expr.CmpOpEq, r.To)},
				[]expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}))
		}
		list = append(list, c)
	}
	if len(r.Masquerade) > 0 {
		c := chain{chain: &nftables.Chain{Name: masqueradeChain, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting,
			Priority: nftables.ChainPriorityNATSource, Policy: &accept}}
		for _, p := range r.Masquerade {
			c.rules = append(c.rules, slices.Concat(
				[]expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.NFPROTO_IPV4}}},
				sourceIn(p),
				[]expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, interfaceIs(expr.CmpOpNeq, r.Inside)},
				[]expr.Any{&expr.Counter{}, &expr.Masq{}}))
		}
		list = append(list, c)
	}
	return list
}

// interfaceIs compares the name of an interface.
func interfaceIs(op expr.CmpOp, name string) *expr.Cmp {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return &expr.Cmp{Op: op, Register: 1, Data: b}
}

// sourceIn matches packets from a prefix.
func sourceIn(p netip.Prefix) []expr.Any {
	const source = 12 // offset in the IPv4 header
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - p.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// read returns the chains of our table in the order of their names, or none if there is no table.
func read() (list []chain, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, err
	}
	for _, ch := range chains {
		if ch.Table.Name != tableName {
			continue
		}
		rules, err := c.GetRules(table(), ch)
		if err != nil {
			return nil, err
		}
		found := chain{chain: ch}
		for _, r := range rules {
			found.rules = append(found.rules, r.Exprs)
		}
		list = append(list, found)
	}
	slices.SortFunc(list, func(a, b chain) int { return strings.Compare(a.chain.Name, b.chain.Name) })
	return list, nil
}

// same reports whether two lists of chains do the same.
func same(have, want []chain) bool {
	return slices.EqualFunc(have, want, func(h, w chain) bool {
		return h.chain.Name == w.chain.Name && h.chain.Hooknum != nil && *h.chain.Hooknum == *w.chain.Hooknum &&
			slices.EqualFunc(h.rules, w.rules, func(a, b []expr.Any) bool { return slices.EqualFunc(a, b, sameExpr) })
	})
}

// sameExpr compares two expressions, but not what a counter has counted.
func sameExpr(a, b expr.Any) bool {
	if _, ok := a.(*expr.Counter); ok {
		a = &expr.Counter{}
	}
	return reflect.DeepEqual(a, b)
}

// wrapRules adds the table and the remedy to an error.
func wrapRules(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("nftables: table inet %s: %w: attach: host takes nf_tables with NAT (modprobe nft_masq); "+
		"with masquerade: false and serve_uplink: true it needs none of it", tableName, err)
}
