package guard

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"nat64d/pool6"
)

// add6 adds a rule "ip6 daddr PREFIX drop" for each prefix, and before it "ip6 daddr @bypassN accept" where a part of
// the prefix is left to the host. A longer prefix comes first: it has the word about what lies in it.
func (g *Guard) add6(c *nftables.Conn, t *nftables.Table) error {
	chain := ingress(c, t, chain6, g.o.V6)
	prefixes := slices.SortedStableFunc(slices.Values(g.pool6), func(a, b pool6.Prefix) int {
		return cmp.Compare(b.Prefix().Bits(), a.Prefix().Bits())
	})
	for i, p := range prefixes {
		if spans := spansWithin(p.Prefix(), g.bypass); len(spans) > 0 {
			set := &nftables.Set{
				Table: t, ID: uint32(bypassID + i), Name: bypassSet + strconv.Itoa(i), KeyType: nftables.TypeIP6Addr, Interval: true,
			}
			if err := addSet(c, set, spans6(spans)); err != nil {
				return err
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(frame(unix.ETH_P_IPV6), to6(16), []expr.Any{
				&expr.Lookup{SourceRegister: reg0, SetName: set.Name, SetID: set.ID},
				&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept},
			})})
		}
		n := p.Prefix().Bits() / 8 // their lengths are whole bytes
		c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: slices.Concat(frame(unix.ETH_P_IPV6), to6(n), []expr.Any{
			&expr.Cmp{Register: reg0, Op: expr.CmpOpEq, Data: p.Prefix().Addr().AsSlice()[:n]},
		}, dropped())})
	}
	return nil
}

// to6 loads the first n bytes of the destination.
func to6(n int) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: reg0, Base: expr.PayloadBaseNetworkHeader, Offset: ip6Daddr, Len: uint32(n)}}
}

// span6 is a range of addresses.
type span6 struct{ first, last netip.Addr }

// spansWithin returns the addresses of those prefixes that lie inside p and are longer: ranges in order that do not
// touch each other.
func spansWithin(p netip.Prefix, prefixes []netip.Prefix) []span6 {
	var spans []span6
	for _, q := range slices.SortedFunc(slices.Values(prefixes), netip.Prefix.Compare) {
		if q.Bits() <= p.Bits() || !p.Contains(q.Addr()) {
			continue
		}
		s := span6{q.Masked().Addr(), lastOf(q)}
		if n := len(spans); n > 0 && s.first.Compare(spans[n-1].last.Next()) <= 0 {
			if spans[n-1].last.Less(s.last) {
				spans[n-1].last = s.last
			}
			continue
		}
		spans = append(spans, s)
	}
	return spans
}

// lastOf returns the last address of an IPv6 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	a := p.Addr().As16()
	for bit := p.Bits(); bit < 128; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom16(a)
}

// spans6 returns ranges as an interval set has them: the begin of each, and the address behind its end. That exists: a
// NAT64 prefix is not multicast, and does not reach the last address of all.
func spans6(spans []span6) []nftables.SetElement {
	var list []nftables.SetElement
	for _, s := range spans {
		list = append(list,
			nftables.SetElement{Key: s.first.AsSlice()},
			nftables.SetElement{Key: s.last.Next().AsSlice(), IntervalEnd: true})
	}
	return list
}
