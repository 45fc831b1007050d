//go:build linux

package nexthop

import (
	"slices"

	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/packet"
)

// parts are those of a flow that routes, rules and IPsec policies look at, beside the destination. Flows that agree in them
// share a way.
type parts uint8

const (
	partSource parts = 1 << iota
	partPorts        // with the protocol
	partProto
	partTOS
	partOrigin
)

// rule is a routing rule (ip-rule(8)) that can match a packet of ours. Its table is an index of fib.tables.
type rule struct {
	match    selector
	origins  uint8 // a bit for each packet.Origin that it is for
	invert   bool
	action   uint8 // FR_ACT_…
	table    int   // of FR_ACT_TO_TBL
	next     int   // of FR_ACT_GOTO: where the look-up goes on
	suppress suppress
}

const anyOrigin = 1<<packet.FromV6 | 1<<packet.FromV4 | 1<<packet.FromHost

// matches reports whether r applies to f.
func (r *rule) matches(f *flow) bool {
	return (r.origins>>f.origin&1 != 0 && r.match.matches(f)) != r.invert
}

// parts returns what r looks at.
func (r *rule) parts() (p parts) {
	if r.match.src.IsValid() {
		p |= partSource
	}
	if r.match.sport != (portRange{}) || r.match.dport != (portRange{}) {
		p |= partPorts | partProto
	}
	if r.match.proto != 0 {
		p |= partProto
	}
	if r.match.mask != 0 {
		p |= partTOS
	}
	if r.origins != anyOrigin {
		p |= partOrigin
	}
	return p
}

// defaultRules are those that a kernel starts with, and all that one without rules has.
func defaultRules() []ruleMessage {
	var list []ruleMessage
	for _, t := range defaultTables {
		list = append(list, ruleMessage{action: unix.FR_ACT_TO_TBL, table: t, suppress: suppress{-1, -1}})
	}
	return list
}

// compile makes the rules of a side from the kernel's list. Those that no packet of ours can match are left out, so that
// they cost nothing. Tables that are not in f yet are added to it, empty.
func (f *fib) compile(list []ruleMessage, nics *[sides]nic, d side) []rule {
	var rules []rule
	at := make([]int, len(list)+1) // where a rule of the list, or what follows it, is in rules
	for i := range list {
		at[i] = len(rules)
		if r, ok := list[i].rule(nics, d); ok {
			if r.action == unix.FR_ACT_TO_TBL {
				r.table = f.add(list[i].tableOf(&nics[d]))
			}
			rules = append(rules, r)
		}
	}
	at[len(list)] = len(rules)
	for i := range list {
		if list[i].action == unix.FR_ACT_GOTO && at[i+1] > at[i] {
			rules[at[i]].jump(list, i, at)
		}
	}
	return rules
}

// jump sets where the rule, number i of the list, leads to. A target that is missing makes it do nothing.
func (r *rule) jump(list []ruleMessage, i int, at []int) {
	n := slices.IndexFunc(list, func(m ruleMessage) bool { return m.priority == list[i].target })
	if n <= i {
		r.action = unix.FR_ACT_NOP
		return
	}
	r.next = at[n]
}

// tableOf returns the table that a rule leads to.
func (m *ruleMessage) tableOf(n *nic) uint32 {
	if m.l3mdev {
		return n.vrf
	}
	return m.table
}

// rule returns m as it concerns one side, false if no packet matches it there. A packet that leaves by an interface of a
// VRF is looked up in that VRF's table.
func (m *ruleMessage) rule(nics *[sides]nic, d side) (rule, bool) {
	r := rule{match: m.match, origins: m.origins(nics), invert: m.invert, action: m.action, suppress: m.suppress}
	if m.impossible || m.l3mdev && nics[d].vrf == 0 || r.origins == 0 {
		r.match, r.origins, r.invert = selector{}, anyOrigin, false // inverted, it matches all
		return r, m.invert
	}
	return r, true
}

// origins returns the origins of packets that have m's incoming interface. For the kernel its own packets come from lo.
func (m *ruleMessage) origins(nics *[sides]nic) (o uint8) {
	if m.iif == "" {
		return anyOrigin
	}
	for d, from := range [sides]packet.Origin{v6: packet.FromV6, v4: packet.FromV4} {
		if n := &nics[d]; n.Index != 0 && (m.iif == n.Name || m.iif == n.master) {
			o |= 1 << from
		}
	}
	if m.iif == "lo" {
		o |= 1 << packet.FromHost
	}
	return o
}

// choose sets the parts of a flow that the rules, routes and IPsec policies of s look at.
func (s *snapshot) choose() {
	s.parts = [sides]parts{}
	if s.fib.sourced > 0 {
		s.parts[v6] |= partSource
	}
	if s.fib.typed > 0 {
		s.parts[v4] |= partTOS
	}
	for d := range s.rules {
		for i := range s.rules[d] {
			s.parts[d] |= s.rules[d][i].parts()
		}
		if s.ipsec[d] != nil {
			s.parts[d] |= s.ipsec[d].parts
		}
	}
}

// way goes through the rules of a side as the kernel does (fib_rules_lookup).
func (s *snapshot) way(d side, f *flow) way {
	if f.dst.IsMulticast() || f.dst.IsUnspecified() || f.dst == broadcast {
		return way{reason: drop.NoRoute}
	}
	rules := s.rules[d]
	for i := 0; i < len(rules); i++ {
		r := &rules[i]
		if !r.matches(f) {
			continue
		}
		switch r.action {
		case unix.FR_ACT_NOP:
		case unix.FR_ACT_GOTO:
			i = r.next - 1
		case unix.FR_ACT_TO_TBL:
			if w, ok := s.inTable(r, f, s.nics[d].Index); ok {
				return w
			}
		default: // blackhole, unreachable, prohibit
			return way{reason: drop.NoRoute}
		}
	}
	return way{reason: drop.NoRoute}
}

// inTable looks f up in the table of r, false if the rules are to go on.
func (s *snapshot) inTable(r *rule, f *flow, index int) (way, bool) {
	suppresses := r.suppress != suppress{-1, -1}
	v := s.fib.tables[r.table].find(f, index, suppresses)
	if suppresses && v.outcome == decided && !v.refuses && s.suppressed(&r.suppress, &v) {
		return way{}, false
	}
	return v.way, v.outcome == decided
}

// suppressed reports whether a rule does not accept what its table says. Routes that refuse are accepted always.
func (s *snapshot) suppressed(u *suppress, v *verdict) bool {
	group, known := s.groups[v.device]
	return int32(v.bits) <= u.bits || u.group >= 0 && known && group == uint32(u.group)
}
