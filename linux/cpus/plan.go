//go:build linux

// Package cpus chooses the processors on which the workers of the gateway (RFC 6146) and the NAPI threads of its NICs
// run. A worker should not share a processor with the receive path of its NIC: soft interrupts have precedence over every
// thread, so a flood of packets that will be dropped would leave the worker no time.
//
// Plan decides, without I/O. A Reader reads what the kernel reports.
package cpus

import "fmt"

// NIC describes where the kernel receives the packets of a NIC. The zero NIC does not exist.
type NIC struct {
	Name       string
	Interrupts Set // the processors that serve its interrupts; empty: it has none, or they are not known
	Steered    Set // the processors of receive packet steering (rps_cpus)
	Threads    Set // the processors of NAPI threads, if Plan may not place them
}

// Machine is what Plan decides by.
type Machine struct {
	Allowed Set    // the processors that this program may use
	Quiet   Set    // the processors that process almost no received packets while others do
	Pin     []int  // interfaces.pin: the processors of the workers in turn; empty: Plan chooses
	Workers int    // of each side
	NICs    [2]NIC // of the sides; may be the same one
}

// Side is the plan for one side.
type Side struct {
	Workers []Set  // the processors of each worker
	Threads Set    // the processors of the NAPI threads of its NIC
	Why     string // a clause for the operator
}

// Plan chooses the processors of both sides. It prefers excluding processors to choosing one, so that the scheduler can
// still move a worker away from a busy program.
func (m *Machine) Plan() (sides [2]Side) {
	for s := range sides {
		sides[s] = m.side(s)
	}
	return sides
}

func (m *Machine) side(s int) Side {
	nic := &m.NICs[s]
	switch {
	case len(m.Pin) > 0:
		return m.pinned(s)
	case m.Allowed.Len() < 2:
		return m.anywhere("the only processor")
	case nic.Name == "":
		return m.anywhere("the interface does not exist")
	}
	return m.apart(nic)
}

// apart excludes the processors that receive for a NIC. For a veth none are known: its soft interrupts run where its sender
// runs. Excluding the sender's processor there made round trips and TCP slower (docs/performance.md).
func (m *Machine) apart(nic *NIC) Side {
	serving := nic.serving(m.Quiet)
	rest := m.Allowed.Without(serving)
	switch {
	case serving.Empty():
		return m.anywhere(fmt.Sprintf("%s has no interrupts", nic.Name))
	case rest.Len() < m.Workers:
		return m.anywhere(fmt.Sprintf("%s receives on %v, too few others", nic.Name, serving))
	}
	side := m.anywhere(fmt.Sprintf("%s receives on %v", nic.Name, serving))
	for i := range side.Workers {
		side.Workers[i] = rest
	}
	if here := serving.And(m.Allowed); !here.Empty() {
		side.Threads = here
	}
	return side
}

// serving returns the processors on which soft interrupts or threads receive for the NIC. Of several, the quiet ones do not
// count.
func (n *NIC) serving(quiet Set) Set {
	all := n.Interrupts.Or(n.Steered)
	if !n.Threads.Empty() {
		all = n.Threads.Or(n.Steered)
	}
	if busy := all.Without(quiet); !busy.Empty() {
		return busy
	}
	return all
}

// anywhere lets the scheduler place workers and threads.
func (m *Machine) anywhere(why string) Side {
	side := Side{Workers: make([]Set, m.Workers), Threads: m.Allowed, Why: why}
	for i := range side.Workers {
		side.Workers[i] = m.Allowed
	}
	return side
}

// pinned binds each worker to one processor, and keeps the NAPI threads off these if others are left.
func (m *Machine) pinned(s int) Side {
	side := m.anywhere("interfaces.pin")
	for i := range side.Workers {
		side.Workers[i] = Of(m.Pin[(2*i+s)%len(m.Pin)])
		side.Threads = side.Threads.Without(side.Workers[i])
	}
	if side.Threads.Empty() {
		side.Threads = m.Allowed
	}
	return side
}
