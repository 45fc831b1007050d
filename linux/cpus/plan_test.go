//go:build linux

package cpus

import (
	"reflect"
	"testing"
)

func TestPlan(t *testing.T) {
	t.Parallel()
	all := func(n int, s Set) (list []Set) {
		for range n {
			list = append(list, s)
		}
		return list
	}
	veth, other := NIC{Name: "v6"}, NIC{Name: "v4"}
	for _, c := range []struct {
		name string
		m    Machine
		want [2]Side
	}{
		{
			"one processor", Machine{Allowed: Of(0), Workers: 1, NICs: [2]NIC{{Name: "a", Interrupts: Of(0)}, veth}},
			[2]Side{{all(1, Of(0)), Of(0), "the only processor"}, {all(1, Of(0)), Of(0), "the only processor"}},
		}, {
			"a cpuset of one of four processors", Machine{Allowed: Of(2), Workers: 1, NICs: [2]NIC{{Name: "a", Interrupts: Of(0, 1)}, veth}},
			[2]Side{{all(1, Of(2)), Of(2), "the only processor"}, {all(1, Of(2)), Of(2), "the only processor"}},
		}, {
			"two processors, all interrupts on one", Machine{Allowed: Of(0, 1), Workers: 1,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(0)}, {Name: "b", Interrupts: Of(0)}}},
			[2]Side{{all(1, Of(1)), Of(0), "a receives on 0"}, {all(1, Of(1)), Of(0), "b receives on 0"}},
		}, {
			"two processors, a NIC on each", Machine{Allowed: Of(0, 1), Workers: 1,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(0)}, {Name: "b", Interrupts: Of(1)}}},
			[2]Side{{all(1, Of(1)), Of(0), "a receives on 0"}, {all(1, Of(0)), Of(1), "b receives on 1"}},
		}, {
			"steering to one processor", Machine{Allowed: Of(0, 1), Workers: 1, NICs: [2]NIC{{Name: "v6", Steered: Of(1)}, other}},
			[2]Side{{all(1, Of(0)), Of(1), "v6 receives on 1"}, {all(1, Of(0, 1)), Of(0, 1), "v4 has no interrupts"}},
		}, {
			"steering everywhere", Machine{Allowed: Of(0, 1), Workers: 1, NICs: [2]NIC{{Name: "v6", Interrupts: Of(0), Steered: Of(0, 1)}, other}},
			[2]Side{{all(1, Of(0, 1)), Of(0, 1), "v6 receives on 0-1, too few others"}, {all(1, Of(0, 1)), Of(0, 1), "v4 has no interrupts"}},
		}, {
			"a veth pair, whatever receives", Machine{Allowed: Of(0, 1), Quiet: Of(1), Workers: 1, NICs: [2]NIC{veth, other}},
			[2]Side{{all(1, Of(0, 1)), Of(0, 1), "v6 has no interrupts"}, {all(1, Of(0, 1)), Of(0, 1), "v4 has no interrupts"}},
		}, {
			"a queue for each processor, some without traffic", Machine{Allowed: Of(0, 1, 2, 3), Quiet: Of(2, 3), Workers: 1,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(0, 1, 2, 3)}, {Name: "b", Interrupts: Of(2, 3)}}},
			[2]Side{{all(1, Of(2, 3)), Of(0, 1), "a receives on 0-1"}, {all(1, Of(0, 1)), Of(2, 3), "b receives on 2-3"}},
		}, {
			"too few processors for the workers", Machine{Allowed: Of(0, 1, 2, 3), Workers: 2,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(0, 1, 2)}, {Name: "b", Interrupts: Of(0)}}},
			[2]Side{{all(2, Of(0, 1, 2, 3)), Of(0, 1, 2, 3), "a receives on 0-2, too few others"}, {all(2, Of(1, 2, 3)), Of(0), "b receives on 0"}},
		}, {
			"interrupts on processors of others", Machine{Allowed: Of(2, 3), Workers: 1,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(0)}, {Name: "b", Interrupts: Of(0, 2)}}},
			[2]Side{{all(1, Of(2, 3)), Of(2, 3), "a receives on 0"}, {all(1, Of(3)), Of(2), "b receives on 0,2"}},
		}, {
			"NAPI threads that the operator has bound", Machine{Allowed: Of(0, 1), Workers: 1,
				NICs: [2]NIC{{Name: "a", Interrupts: Of(1), Threads: Of(0)}, {Name: "b", Threads: Of(0, 1)}}},
			[2]Side{{all(1, Of(1)), Of(0), "a receives on 0"}, {all(1, Of(0, 1)), Of(0, 1), "b receives on 0-1, too few others"}},
		}, {
			"pinned", Machine{Allowed: Of(0, 1, 2, 3), Pin: []int{3, 1, 2}, Workers: 2, NICs: [2]NIC{{Name: "a", Interrupts: Of(3)}, veth}},
			[2]Side{{[]Set{Of(3), Of(2)}, Of(0, 1), "interfaces.pin"}, {[]Set{Of(1), Of(3)}, Of(0, 2), "interfaces.pin"}},
		}, {
			"pinned to the only processor", Machine{Allowed: Of(0), Pin: []int{0}, Workers: 1, NICs: [2]NIC{veth, other}},
			[2]Side{{all(1, Of(0)), Of(0), "interfaces.pin"}, {all(1, Of(0)), Of(0), "interfaces.pin"}},
		}, {
			"an interface that does not exist yet", Machine{Allowed: Of(0, 1), Workers: 1, NICs: [2]NIC{{}, veth}},
			[2]Side{{all(1, Of(0, 1)), Of(0, 1), "the interface does not exist"}, {all(1, Of(0, 1)), Of(0, 1), "v6 has no interrupts"}},
		},
	} {
		if got := c.m.Plan(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n got %v\nwant %v", c.name, got, c.want)
		}
	}
}

// A plan uses only processors that are allowed, gives each worker at least one, and follows a change of the set.
func TestPlanFollowsTheAllowedProcessors(t *testing.T) {
	t.Parallel()
	m := Machine{Workers: 1, NICs: [2]NIC{{Name: "a", Interrupts: Of(0)}, {Name: "b", Interrupts: Of(1)}}}
	for bits := 1; bits < 1<<4; bits++ {
		m.Allowed = Set{}
		for c := range 4 {
			if bits>>c&1 != 0 {
				m.Allowed = m.Allowed.Or(Of(c))
			}
		}
		for s, side := range m.Plan() {
			workers := side.Workers[0]
			if workers.Empty() || !workers.Without(m.Allowed).Empty() || side.Threads.Empty() || !side.Threads.Without(m.Allowed).Empty() {
				t.Errorf("%v allowed, side %d: %v", m.Allowed, s, side)
			}
			if m.Allowed.Len() > 1 && workers.Has(s) {
				t.Errorf("%v allowed, side %d: the worker shares the processor of the interrupts: %v", m.Allowed, s, side)
			}
		}
	}
}
