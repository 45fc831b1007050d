//go:build linux

// Package guard prevents the host's own IP stack from answering packets for the transport addresses and prefixes that
// a NAT64 gateway (RFC 6146) has taken over. A packet socket sees every frame, but the host's stack does so too, and
// would reset each translated connection.
package guard

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// Options are the options of a Guard.
type Options struct {
	V6, V4       string // interface names; may be equal
	All6, All4   bool   // on that interface, nothing is for the host: also what is not covered is dropped
	ReservePorts bool   // prevent programs of the host from using pool4 ports on addresses that the host owns
	Program      bool   // also drop the packets with a BPF program, which "nft flush ruleset" does not remove
}

// Guard manages one nftables table, BPF programs with the same effect, and the ports that it added to
// net.ipv4.ip_local_reserved_ports. It works in the network namespace of the calling thread, which must be the same
// for all calls. Only Refuse, Watch and Masqueraded are safe for concurrent use.
type Guard struct {
	o          Options
	covered    Covered
	cover      cover
	notes      map[int]string // by the index of an interface; nil: those in the table
	indexes    [2]int         // of the interfaces at the last installation
	added      ports          // ports added to the reserved ones
	applied    bool
	stale      bool  // the last installation failed
	unreserved error // why ports could not be added to or removed from the reserved ones
	programs   programs
}

// New returns a guard without changing the host.
func New(o Options) *Guard { return &Guard{o: o} }

// Apply makes the guard drop exactly the packets covered by c on the v4 and v6 interfaces. It takes over the table of
// an earlier process. It changes only differences, in one transaction, so that packets covered before and after are
// dropped at all times; without differences it sends nothing. Apply does not check whether c harms the host: see
// Refuse.
//
// Echo replies and ICMP errors need no rule: the host ignores those without a matching request.
func (g *Guard) Apply(c Covered) error {
	g.covered, g.cover, g.applied = c.clone(), c.normal(), true
	_, err := g.install()
	return err
}

// Move makes the guard drop packets on other interfaces from the next Check on.
func (g *Guard) Move(v6, v4 string) { g.o.V6, g.o.V4 = v6, v4 }

// Check restores the state that Apply made: if the table was changed, if an interface has a new index, or if the last
// attempt failed. damage describes the changes that another program has made, or is empty. Call it on every link
// event and when Watch reports a change.
func (g *Guard) Check() (damage string, err error) {
	if !g.applied {
		return "", nil
	}
	expected := g.stale || g.indexes != g.interfaces()
	what, err := g.install()
	if expected {
		return "", err
	}
	return describe(what), err
}

// Covers reports whether the table is attached to the interfaces that currently have the configured names.
func (g *Guard) Covers() bool { return !g.applied || !g.stale && g.indexes == g.interfaces() }

// Remove deletes the table, detaches the programs and releases the reserved ports. Without a table it does nothing.
// If releasing the ports fails, it still deletes the table: reserved ports harm the host less than unreachable
// services.
func (g *Guard) Remove() error {
	g.applied = false
	g.programs.detach()
	have, err := read()
	if have == nil {
		return err
	}
	err = giveBack(g.added.plus(have.added()))
	g.added = ports{}
	if have.exists {
		err = errors.Join(err, deleteTable())
	}
	return err
}

// Leave ends the guard like Remove, but the table drops the same packets until d has passed, except echo requests, unless
// another process takes the table over before. Then the kernel removes the elements of its sets, so that it drops nothing.
// The empty table, the reserved ports and the notes stay for the next Apply or Remove, as after a crash.
func (g *Guard) Leave(d time.Duration) error {
	if !g.applied || d <= 0 {
		return g.Remove()
	}
	want := g.layout(g.added)
	want.expire(d)
	if _, err := g.bring(nil, want); err != nil {
		return errors.Join(fmt.Errorf("leave the guard for %v: %w", d, err), g.Remove())
	}
	g.applied = false
	g.programs.detach() // a program has no timeout
	return nil
}

// Warnings describes failures that the guard tolerates.
func (g *Guard) Warnings() (ws []string) {
	if g.unreserved != nil {
		ws = append(ws, fmt.Sprintf("a program of this host may pick a port of pool4 for a connection, which then fails: %v", g.unreserved))
	}
	if g.programs.err != nil {
		ws = append(ws, fmt.Sprintf("nft flush ruleset may reset connections, until the table is back a moment later: "+
			"no BPF program protects them meanwhile (CAP_BPF, Linux 6.6): %v", g.programs.err))
	}
	return ws
}

// install makes the table, the programs and the reserved ports what they should be, and describes the differences
// found in the table. The table lists the ports that the guard added, so that they are known after a crash: install
// releases ports before it removes them from the table, and reserves ports after it has added them to the table.
func (g *Guard) install() (what []string, err error) {
	defer func() { g.stale = err != nil }()
	have, err := read()
	if have == nil {
		return nil, err
	}
	if g.notes == nil {
		g.notes = have.kept()
	}
	old := g.added.plus(have.added()) // even if the table was deleted, the ports are still ours
	if err != nil {
		have = nil
	}
	g.indexes = g.interfaces()
	g.attach()
	current, others, added, err := g.toReserve(old)
	left := current.minus(old.minus(added))
	if g.unreserved = errors.Join(err, reserve(current, left)); g.unreserved != nil {
		added = old
	}
	if what, err = g.bring(have, g.layout(added)); err != nil {
		return what, err
	}
	if g.unreserved == nil {
		if g.unreserved = reserve(left, others.plus(added)); g.unreserved != nil {
			added = old.minus(old.minus(added)) // none of the new ports has been added
			_, err = g.bring(nil, g.layout(added))
		}
	}
	g.added = added
	return what, err
}

// toReserve returns the reserved ports, those among them that others have reserved, and those that the guard should
// add. old are the ports that it has added. With an error, all three are such that nothing changes.
func (g *Guard) toReserve(old ports) (current, others, added ports, err error) {
	if current, err = reservedPorts(); err != nil {
		return current, current, old, err
	}
	others = current.minus(old)
	var want ports
	if g.o.ReservePorts {
		if want, err = ownPorts(g.covered.Pool4); err != nil {
			return current, others, old, err
		}
	}
	added = want.minus(others)
	if added.minus(old) != (ports{}) {
		err = mayReserve()
	}
	if err != nil {
		return current, others, old, err
	}
	return current, others, added, nil
}

// bring changes the table from have to want. If have is nil, it reads the table first. It replaces a table that it
// cannot read or change, or that has foreign objects.
func (g *Guard) bring(have, want *layout) (what []string, err error) {
	for range 2 { // another program may change the table between reading and writing
		if have == nil {
			if have, err = read(); have == nil {
				return what, err
			}
		}
		if err != nil || have.foreign() {
			break
		}
		differs, err := put(have, want)
		what = append(what, differs...)
		if err == nil {
			return what, nil
		}
		have = nil
	}
	return append(what, "what is not ours"), replace(want)
}

// interfaces returns the indexes of the v6 and the v4 interface, 0 for a missing one.
func (g *Guard) interfaces() (indexes [2]int) {
	for i, name := range []string{g.o.V6, g.o.V4} {
		if ifi, err := net.InterfaceByName(name); err == nil {
			indexes[i] = ifi.Index
		}
	}
	return indexes
}

// giveBack releases the ports that the guard added. Its error lists the ports, because the table, the only record of
// them, is about to be deleted.
func giveBack(added ports) error {
	current, err := reservedPorts()
	if err == nil {
		err = reserve(current, current.minus(added))
	}
	if err != nil && added != (ports{}) {
		return fmt.Errorf("ports %v stay reserved: %w", added, err)
	}
	return nil
}

func (c *Covered) clone() Covered {
	return Covered{slices.Clone(c.Pool4), slices.Clone(c.Echo), slices.Clone(c.Pool6), slices.Clone(c.Bypass)}
}
