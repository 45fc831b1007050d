//go:build linux

package nexthop

import (
	"slices"

	"golang.org/x/sys/unix"

	"nat64d/drop"
	"nat64d/packet"
)

// fields is a set of fields of a flow, other than the destination: those that routes, rules and IPsec policies depend
// on. Flows that agree in these fields and the destination have the same hop.
type fields uint8

const (
	fieldSource fields = 1 << iota
	fieldPorts         // includes the protocol
	fieldProto
	fieldTOS
	fieldOrigin
)

// rule is a routing rule (ip-rule(8)) that can match forwarded packets. Its table is an index of fib.tables.
type rule struct {
	match    selector
	origins  uint8 // a bit for each packet.Origin that it is for
	invert   bool
	action   uint8 // FR_ACT_…
	table    int   // of FR_ACT_TO_TBL
	next     int   // of FR_ACT_GOTO: index of the next rule
	suppress suppress
}

const anyOrigin = 1<<packet.FromV6 | 1<<packet.FromV4 | 1<<packet.FromHost

// matches reports whether r applies to f.
func (r *rule) matches(f *flow) bool {
	return (r.origins>>f.origin&1 != 0 && r.match.matches(f)) != r.invert
}

// fields returns the fields that r matches.
func (r *rule) fields() (p fields) {
	if r.match.src.IsValid() {
		p |= fieldSource
	}
	if r.match.sport != (portRange{}) || r.match.dport != (portRange{}) {
		p |= fieldPorts | fieldProto
	}
	if r.match.proto != 0 {
		p |= fieldProto
	}
	if r.match.mask != 0 {
		p |= fieldTOS
	}
	if r.origins != anyOrigin {
		p |= fieldOrigin
	}
	return p
}

// defaultRules returns the initial rules of a kernel, which are also the fixed rules of a kernel without policy
// routing.
func defaultRules() []ruleMessage {
	var list []ruleMessage
	for _, t := range defaultTables {
		list = append(list, ruleMessage{action: unix.FR_ACT_TO_TBL, table: t, suppress: suppress{-1, -1}})
	}
	return list
}

// compile converts the kernel's list to the rules of a side. It omits rules that cannot match a forwarded packet, so
// that they cost nothing. It adds missing tables to f, empty.
func (f *fib) compile(list []ruleMessage, nics *[sides]nic, d side) []rule {
	var rules []rule
	at := make([]int, len(list)+1) // index in rules of each rule of the list, or of the rule after it
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

// jump sets the target of the rule, which is number i of the list. A rule without a valid target has no effect.
func (r *rule) jump(list []ruleMessage, i int, at []int) {
	n := slices.IndexFunc(list, func(m ruleMessage) bool { return m.priority == list[i].target })
	if n <= i {
		r.action = unix.FR_ACT_NOP
		return
	}
	r.next = at[n]
}

// tableOf returns the table of a rule.
func (m *ruleMessage) tableOf(n *nic) uint32 {
	if m.l3mdev {
		return n.vrf
	}
	return m.table
}

// rule converts m for one side. It returns false if m matches no packet there. Packets that leave by an interface in
// a VRF are looked up in the table of that VRF.
func (m *ruleMessage) rule(nics *[sides]nic, d side) (rule, bool) {
	r := rule{match: m.match, origins: m.origins(nics), invert: m.invert, action: m.action, suppress: m.suppress}
	if m.impossible || m.l3mdev && nics[d].vrf == 0 || r.origins == 0 {
		r.match, r.origins, r.invert = selector{}, anyOrigin, false // an inverted rule of this kind matches all packets
		return r, m.invert
	}
	return r, true
}

// origins returns the origins of packets that match m's incoming interface. The kernel treats its own packets as
// received from lo.
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

// choose sets the fields that the rules, routes and IPsec policies of s depend on.
func (s *snapshot) choose() {
	defer s.ignoreBehindPairs()
	s.fields = [sides]fields{}
	if s.fib.sourced > 0 {
		s.fields[v6] |= fieldSource
	}
	if s.fib.typed > 0 {
		s.fields[v4] |= fieldTOS
	}
	for d := range s.rules {
		for i := range s.rules[d] {
			s.fields[d] |= s.rules[d][i].fields()
		}
		if s.ipsec[d] != nil {
			s.fields[d] |= s.ipsec[d].fields
		}
	}
}

// ignoreBehindPairs forgets the fields of sides whose packets the host's own stack routes.
func (s *snapshot) ignoreBehindPairs() {
	for d := range s.nics {
		if s.nics[d].pair() {
			s.fields[d] = 0
		}
	}
}

// way evaluates the rules of a side as the kernel does (fib_rules_lookup).
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

// inTable looks up f in the table of r. It returns false if the next rule should be tried.
func (s *snapshot) inTable(r *rule, f *flow, index int) (way, bool) {
	suppresses := r.suppress != suppress{-1, -1}
	v := s.fib.tables[r.table].find(f, index, suppresses)
	if suppresses && v.outcome == decided && !v.refuses && s.suppressed(&r.suppress, &v) {
		return way{}, false
	}
	return v.way, v.outcome == decided
}

// suppressed reports whether a rule rejects the result of its table. Routes that refuse packets are never rejected.
func (s *snapshot) suppressed(u *suppress, v *verdict) bool {
	group, known := s.groups[v.device]
	return int32(v.bits) <= u.bits || u.group >= 0 && known && group == uint32(u.group)
}
