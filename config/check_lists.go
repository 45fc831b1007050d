package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nat64d/pool4"
	"nat64d/pool6"
)

func rowKey(list string, n int) string { return list + "[" + strconv.Itoa(n) + "]" }

// maxPool6 bounds the number of prefixes. Every packet from IPv6 searches them, and a session has 8 bits for its prefix.
const maxPool6 = 64

// pool6 returns the prefixes and the policy of each for private addresses. Without any row it returns the Well-Known Prefix.
func (d *document) pool6(rows []rawPool6) ([]pool6.Prefix, []PrivateV4) {
	if len(rows) == 0 {
		rows = []rawPool6{{Prefix: pool6.WellKnown.String()}}
	}
	if len(rows) > maxPool6 {
		d.problem(rowKey("pool6", maxPool6), "too many prefixes; at most %d are allowed", maxPool6)
		rows = rows[:maxPool6]
	}
	var prefixes []pool6.Prefix
	var private []PrivateV4
	for i, r := range rows {
		choice := valueOf(d, rowKey("pool6", i)+".private_v4", cmp.Or(r.PrivateV4, PrivateV4Auto.String()), PrivateV4Auto, PrivateV4Allow, PrivateV4Drop)
		if p, ok := d.pool6Row(rowKey("pool6", i)+".prefix", r.Prefix, prefixes); ok {
			prefixes, private = append(prefixes, p), append(private, choice)
		}
	}
	return prefixes, private
}

// pool6Row reads one prefix and refuses duplicates. Nested prefixes are allowed; the longest match wins.
func (d *document) pool6Row(key, text string, before []pool6.Prefix) (pool6.Prefix, bool) {
	if text == "" {
		d.problem(key, "missing; write a prefix such as 64:ff9b::/96")
		return pool6.Prefix{}, false
	}
	p, err := pool6.ParsePrefix(text)
	switch {
	case err != nil:
		d.problem(key, "%s", strings.TrimPrefix(err.Error(), "pool6: "))
	case slices.Contains(before, p):
		d.problem(key, "%v is there already; give each prefix once", p)
	}
	return p, err == nil
}

// bypassV6 returns the parts of NAT64 prefixes that the host handles itself. It refuses a whole prefix, which would disable
// that prefix, and addresses outside of all prefixes, which are not translated anyway.
func (d *document) bypassV6(texts []string, prefixes []pool6.Prefix) []netip.Prefix {
	const list = "bypass_v6"
	ps := d.prefixes(list, texts, "IPv6", netip.Addr.Is6)
	for i, p := range ps {
		inside := func(q pool6.Prefix) bool { return q.Prefix().Bits() < p.Bits() && q.Prefix().Contains(p.Addr()) }
		if p.IsValid() && !slices.ContainsFunc(prefixes, inside) {
			d.problem(rowKey(list, i), "%v is no part of a prefix of pool6, which has %s", p, strings.Trim(fmt.Sprint(prefixes), "[]"))
		}
	}
	return ps
}

// prefixes reads prefixes of one family. A single address counts as a prefix of full length.
func (d *document) prefixes(list string, texts []string, family string, is func(netip.Addr) bool) []netip.Prefix {
	var ps []netip.Prefix
	for i, text := range texts {
		ps = append(ps, d.prefix(rowKey(list, i), text, family, is))
	}
	return ps
}

// prefix reads one prefix, and returns the zero Prefix after a problem.
func (d *document) prefix(key, text, family string, is func(netip.Addr) bool) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if a, bad := netip.ParseAddr(text); bad == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil || !is(p.Addr()) || p.Addr().Is4In6() || p.Addr().Zone() != "":
		d.problem(key, "is %q, but must be an %s prefix or address", text, family)
	case p != p.Masked():
		d.problem(key, "%v has bits set behind its length; did you mean %v?", p, p.Masked())
	default:
		return p
	}
	return netip.Prefix{}
}

// pool4 returns the ranges of the rows, the rows that stand for the address of an interface, and the rules for their addresses.
func (d *document) pool4(rows []rawPool4) (entries []pool4.Entry, followed []pool4.Followed, list []pool4.Rule) {
	rules := pool4Rules{owner: make(map[ruleKey]ruleOwner)}
	for i, r := range rows {
		key := rowKey("pool4", i)
		if name, ports, ok := pool4.SplitInterface(r.Address); ok && r.Interface == "" {
			r.Address, r.Interface, r.Ports = "", name, cmp.Or(r.Ports, ports)
		}
		address, ports := pool4.Split(r.Address)
		switch {
		case r.Address != "" && r.Interface != "":
			d.problem(key+".interface", "%s and the address %s exclude each other; write one of both", r.Interface, r.Address)
			continue
		case r.Address == "" && r.Interface == "":
			d.problem(key+".address", "missing; write an address such as 10.0.2.15, or interface: eth1 for the address of that interface")
			continue
		case address != r.Address && ports == "":
			d.problem(key, "%q has no ports behind the address; write %s:7000-8000, or %s for all ports from 1024", r.Address, address, address)
			continue
		case r.Protocols != nil && len(r.Protocols) == 0:
			d.problem(key+".protocols", "is empty; leave it out for tcp, udp and icmp")
			continue
		}
		es, fs := d.pool4Row(key, r)
		rules.add(d, key, &r, es, fs)
		entries, followed = append(entries, es...), append(followed, fs...)
	}
	return entries, followed, rules.list
}

// pool4Rules collects the rules of rows, and refuses rows with another rule for the same address.
type pool4Rules struct {
	list  []pool4.Rule
	owner map[ruleKey]ruleOwner // the first row of each address
}

// ruleKey is an address of a protocol, or an interface.
type ruleKey struct {
	entry pool4.Entry // without ports
	nic   string
}

type ruleOwner struct{ key, rule string }

// add adds the rule of a row, for each of its protocols.
func (l *pool4Rules) add(d *document, key string, r *rawPool4, es []pool4.Entry, fs []pool4.Followed) {
	const mostWeight = 1000
	if r.Weight > mostWeight {
		d.problem(key+".weight", "is %d, but must be auto or 1 to %d", r.Weight, mostWeight)
	}
	sources := d.prefixes(key+".match.source6", r.Match.Source6, "IPv6", netip.Addr.Is6)
	rule := pool4.Rule{Sources: sources, Weight: max(int(r.Weight), 1)}
	shown := fmt.Sprint(slices.SortedFunc(slices.Values(sources), netip.Prefix.Compare), rule.Weight)
	same := func(k ruleKey, name string) bool {
		first, ok := l.owner[k]
		if !ok {
			l.owner[k] = ruleOwner{key, shown}
		}
		if ok && first.rule != shown {
			d.problem(key, "%s is in %s with another match or weight; all rows of an address have the same", name, first.key)
			return false
		}
		return true
	}
	for _, e := range es {
		if !same(ruleKey{entry: pool4.Entry{Addr: e.Addr, Proto: e.Proto}}, e.Addr.String()) {
			return
		}
	}
	for _, f := range fs {
		if !same(ruleKey{entry: pool4.Entry{Proto: f.Proto}, nic: f.Interface}, "interface:"+f.Interface) {
			return
		}
	}
	if len(sources) == 0 && rule.Weight == 1 {
		return
	}
	for i, e := range es { // in the order of addresses for each protocol
		rule.Proto, rule.First, rule.Last = e.Proto, e.Addr, e.Addr
		if i > 0 && es[i-1].Proto == e.Proto {
			l.list[len(l.list)-1].Last = e.Addr
		} else {
			l.list = append(l.list, rule)
		}
	}
	rule.First, rule.Last = netip.Addr{}, netip.Addr{}
	for _, f := range fs {
		rule.Proto, rule.Interface = f.Proto, f.Interface
		l.list = append(l.list, rule)
	}
}

// pool4Row returns the entries of one row, each address with each protocol, or the row of each protocol for an interface.
func (d *document) pool4Row(key string, r rawPool4) (entries []pool4.Entry, followed []pool4.Followed) {
	names := r.Protocols
	if names == nil {
		names = []string{"tcp", "udp", "icmp"}
	}
	var refused error // only the first error, since the other protocols have the same one
	for i, name := range names {
		sample, ok := protocols()[name]
		if !ok || slices.Contains(names[:i], name) {
			d.problem(rowKey(key+".protocols", i), "is %q, but must be tcp, udp or icmp, each once", name)
			continue
		}
		if r.Interface != "" {
			fs, err := pool4.ParseFollowed(r.Interface, r.Ports, sample.Proto)
			refused = cmp.Or(refused, err)
			followed = append(followed, fs...)
			continue
		}
		es, err := pool4.ParseRange(r.Address, r.Ports, sample.Proto)
		refused = cmp.Or(refused, err)
		entries = append(entries, es...)
	}
	if refused != nil {
		d.problem(key, "%s", strings.TrimPrefix(refused.Error(), "pool4: "))
	}
	return entries, followed
}

// maxProbes limits the hosts that are pinged: each has a goroutine and a packet a second.
const maxProbes = 8

// probe reads the hosts that are pinged.
func (d *document) probe(texts []string) (hosts []netip.Addr) {
	const list = "health.probe"
	if len(texts) > maxProbes {
		d.problem(rowKey(list, maxProbes), "too many hosts; at most %d are allowed", maxProbes)
		texts = texts[:maxProbes]
	}
	for i, text := range texts {
		a, err := netip.ParseAddr(text)
		switch {
		case err != nil || !a.Is4() || !pool6.Unicast4(a.As4()):
			d.problem(rowKey(list, i), "is %q, but must be the address of an IPv4 host such as 198.51.100.7", text)
		case slices.Contains(hosts, a):
			d.problem(rowKey(list, i), "%v is there already; give each host once", a)
		}
		hosts = append(hosts, a)
	}
	return hosts
}

// protocols maps the name of each protocol to an entry with its default ports.
func protocols() map[string]pool4.Entry {
	all, _ := pool4.ParseRange("192.0.2.1", "")
	m := map[string]pool4.Entry{}
	for _, e := range all {
		m[e.Proto.String()] = e
	}
	return m
}
