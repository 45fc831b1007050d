//go:build linux

package guard

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"nat64d/pool4"
)

// Masquerade is a NAT rule of the host that may select a source port of pool4.
type Masquerade struct {
	Text                 string // a sentence for the operator
	Family, Table, Chain string
	Handle               uint64 // of the rule in its table
}

// Masqueraded returns the sentences of Masquerades, sorted and without duplicates.
func (g *Guard) Masqueraded(entries []pool4.Entry) (warnings []string, err error) {
	rules, err := g.Masquerades(entries)
	for _, r := range rules {
		warnings = append(warnings, r.Text)
	}
	slices.Sort(warnings)
	return slices.Compact(warnings), err
}

// Masquerades returns the NAT rules of the host that may select a source port covered by entries. Replies to such a
// connection of the host would be treated as the gateway's, and the connection would time out. It reads nftables,
// which includes rules of iptables-nft. It is safe for concurrent use.
func (g *Guard) Masquerades(entries []pool4.Entry) (rules []Masquerade, err error) {
	entries = slices.DeleteFunc(slices.Clone(entries), func(e pool4.Entry) bool { return transport(e) == 0 })
	own, err := addressesOf(g.o.V4)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, ch := range chains {
		f := ch.Table.Family
		if ch.Type != nftables.ChainTypeNAT || ch.Hooknum == nil || *ch.Hooknum != *nftables.ChainHookPostrouting ||
			f != nftables.TableFamilyIPv4 && f != nftables.TableFamilyINet {
			continue
		}
		r := natReader{c: c, out: g.o.V4, table: ch.Table, seen: map[string]bool{}}
		if err := r.read(ch.Name); err != nil {
			return nil, err
		}
		for _, n := range r.found {
			if taken := n.takes(entries, own); taken != "" {
				text := fmt.Sprintf("nftables chain %s %s %s may send connections of the host's own clients from %s, which are ports of pool4: "+
					"their answers do not arrive; give the rule other ports (masquerade to :PORT-PORT), or pool4 other addresses", family4(f), ch.Table.Name, n.chain, taken)
				rules = append(rules, Masquerade{Text: text, Family: family4(f), Table: ch.Table.Name, Chain: n.chain, Handle: n.handle})
			}
		}
	}
	return rules, nil
}

func family4(f nftables.TableFamily) string {
	if f == nftables.TableFamilyINet {
		return "inet"
	}
	return "ip"
}

// natRule is a rule that rewrites the source of IPv4 packets.
type natRule struct {
	chain       string
	handle      uint64
	first, last netip.Addr // zero: the address of the interface
	lo, hi      uint16     // 0, 0: any port
}

// takes returns the first entry whose ports the rule may select, and the number of further ones.
func (n *natRule) takes(entries []pool4.Entry, own []netip.Addr) string {
	var hit []string
	for _, e := range entries {
		addressed := slices.Contains(own, e.Addr)
		if n.first.IsValid() {
			addressed = !e.Addr.Less(n.first) && !n.last.Less(e.Addr)
		}
		if addressed && (n.lo == 0 && n.hi == 0 || n.lo <= e.Hi && e.Lo <= n.hi) {
			hit = append(hit, e.String())
		}
	}
	if len(hit) > 3 {
		hit = append(hit[:3], fmt.Sprintf("%d other ranges", len(hit)-3))
	}
	return strings.Join(hit, ", ")
}

// natReader finds the NAT rules that apply to packets leaving by an interface, in a chain and in those that it jumps
// to.
type natReader struct {
	c     *nftables.Conn
	out   string
	table *nftables.Table
	seen  map[string]bool
	found []natRule
}

func (r *natReader) read(chain string) error {
	if r.seen[chain] {
		return nil
	}
	r.seen[chain] = true
	rules, err := r.c.GetRules(r.table, &nftables.Chain{Name: chain})
	if err != nil {
		return fmt.Errorf("nftables: list rules of chain %s %s: %w", r.table.Name, chain, err)
	}
	for _, rule := range rules {
		before := len(r.found)
		if err := r.rule(chain, rule.Exprs); err != nil {
			return err
		}
		for i := before; i < len(r.found); i++ {
			r.found[i].handle = cmp.Or(r.found[i].handle, rule.Handle) // one of a chain that the rule jumps to has its own
		}
	}
	return nil
}

// rule evaluates the expressions of a rule until one excludes packets leaving by the interface, or translates them.
// It treats unknown conditions as met.
func (r *natReader) rule(chain string, exprs []expr.Any) error {
	loaded := map[uint32]expr.MetaKey{}
	values := map[uint32][]byte{}
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			loaded[e.Register] = e.Key
		case *expr.Payload:
			delete(loaded, e.DestRegister)
		case *expr.Cmp:
			if key, is := loaded[e.Register]; is && r.excludes(key, e) {
				return nil
			}
		case *expr.Immediate:
			values[e.Register] = e.Data
		case *expr.Verdict:
			if e.Kind == expr.VerdictJump || e.Kind == expr.VerdictGoto {
				return r.read(e.Chain)
			}
		case *expr.Masq:
			r.add(natRule{chain: chain}, values[e.RegProtoMin], values[e.RegProtoMax])
		case *expr.NAT:
			if e.Type == expr.NATTypeSourceNAT {
				r.add(natRule{chain: chain, first: addr(values[e.RegAddrMin]), last: addr(values[e.RegAddrMax])}, values[e.RegProtoMin], values[e.RegProtoMax])
			}
		case *expr.Target:
			r.target(chain, e)
		}
	}
	return nil
}

// value returns a property of packets leaving by the interface, if it is known.
func (r *natReader) value(key expr.MetaKey) ([]byte, bool) {
	switch key {
	case expr.MetaKeyOIFNAME:
		return []byte(r.out), true
	case expr.MetaKeyOIF:
		i, err := net.InterfaceByName(r.out)
		if err != nil {
			return nil, false
		}
		return binary.NativeEndian.AppendUint32(nil, uint32(i.Index)), true
	case expr.MetaKeyNFPROTO:
		return []byte{unix.NFPROTO_IPV4}, true
	}
	return nil, false
}

// excludes reports whether a comparison is false for packets leaving by the interface. A name without a terminating
// zero is a prefix.
func (r *natReader) excludes(key expr.MetaKey, c *expr.Cmp) bool {
	value, known := r.value(key)
	if !known || c.Op != expr.CmpOpEq && c.Op != expr.CmpOpNeq {
		return false
	}
	same := bytes.Equal(value, c.Data)
	if key == expr.MetaKeyOIFNAME {
		name, whole, _ := bytes.Cut(c.Data, []byte{0})
		same = bytes.Equal(value, name) || whole == nil && bytes.HasPrefix(value, name)
	}
	return same != (c.Op == expr.CmpOpEq)
}

// add adds a rule with its ports; without hi, the range is a single port.
func (r *natReader) add(n natRule, lo, hi []byte) {
	if !n.last.IsValid() {
		n.last = n.first
	}
	if len(lo) >= 2 {
		n.lo, n.hi = binary.BigEndian.Uint16(lo), binary.BigEndian.Uint16(lo)
	}
	if len(hi) >= 2 {
		n.hi = binary.BigEndian.Uint16(hi)
	}
	r.found = append(r.found, n)
}

// target adds a rule of iptables.
func (r *natReader) target(chain string, t *expr.Target) {
	if t.Name != "MASQUERADE" && t.Name != "SNAT" {
		return
	}
	n := natRule{chain: chain}
	var lo, hi uint16
	var flags uint
	switch i := t.Info.(type) {
	case *xt.NatIPv4MultiRangeCompat:
		if len(*i) > 0 {
			flags, lo, hi = (*i)[0].Flags, (*i)[0].MinPort, (*i)[0].MaxPort
			n.first, n.last = addr((*i)[0].MinIP.To4()), addr((*i)[0].MaxIP.To4())
		}
	case *xt.NatRange:
		flags, lo, hi = i.Flags, i.MinPort, i.MaxPort
		n.first, n.last = addr(i.MinIP[:min(4, len(i.MinIP))]), addr(i.MaxIP[:min(4, len(i.MaxIP))])
	}
	if flags&uint(xt.NatRangeMapIPs) == 0 || t.Name == "MASQUERADE" {
		n.first, n.last = netip.Addr{}, netip.Addr{}
	}
	if flags&uint(xt.NatRangeProtoSpecified) != 0 {
		n.lo, n.hi = lo, hi
	}
	r.found = append(r.found, n)
}

func addr(b []byte) netip.Addr {
	if len(b) < 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(b))
}

// addressesOf returns the addresses of an interface, or none if it does not exist.
func addressesOf(name string) (own []netip.Addr, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, nil // it may be created later
	}
	list, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", name, err)
	}
	for _, a := range list {
		if p, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(p.IP); ok {
				own = append(own, ip.Unmap())
			}
		}
	}
	return own, nil
}
