//go:build linux

// Package guard keeps the host's own IP stack from answering for the transport addresses and prefixes that a NAT64
// gateway (RFC 6146) has taken over: a tap such as AF_PACKET sees every frame, but so does the host, which would
// reset each translated connection.
package guard

import (
	"errors"
	"fmt"
	"net"
	"slices"
)

// Options says how to guard.
type Options struct {
	V6, V4       string // interface names; may be equal
	ReservePorts bool   // keep the host's programs from picking pool4 ports on addresses that the host owns
	Program      bool   // drop the same packets by a BPF program too, which "nft flush ruleset" leaves in place
}

// Guard owns one nftables table, BPF programs that do the same, and the ports that it added to
// net.ipv4.ip_local_reserved_ports. Its methods act in the network namespace of the calling thread, always the same one. One
// goroutine at a time may use it, except for Refuse, Watch and Masqueraded.
type Guard struct {
	o          Options
	covered    Covered
	cover      cover
	notes      map[int]string // by the index of an interface; nil: those that are in the table
	indexes    [2]int         // of the interfaces, when the table was installed
	added      ports          // to the reserved ones
	applied    bool
	stale      bool  // the last attempt to install has failed
	unreserved error // why ports could not be added to the reserved ones, or given back
	programs   programs
}

// New returns a guard that has changed nothing yet.
func New(o Options) *Guard { return &Guard{o: o} }

// Apply makes the host blind to what c covers on the v4 and on the v6 interface, and to nothing else. A table that an earlier
// process left behind becomes ours. Only what differs is changed, in one transaction, so that no packet passes to the host
// that is covered before and after; if nothing differs, nothing is sent. Apply does not ask whether c harms the host: Refuse does.
//
// An echo reply or an error needs no rule: the host ignores those that it did not ask for.
func (g *Guard) Apply(c Covered) error {
	g.covered, g.cover, g.applied = c.clone(), c.normal(), true
	_, err := g.install()
	return err
}

// Check makes the table what Apply made it, if it is anything else, an interface is not the one that it was bound to, or
// something failed the last time. It returns in words what somebody else had changed, and nothing if nobody had. Call it on
// every link event and when Watch reports a change.
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

// Covers reports whether the table is bound to the interfaces that have the names now.
func (g *Guard) Covers() bool { return !g.applied || !g.stale && g.indexes == g.interfaces() }

// Remove deletes the table, detaches the programs and gives the reserved ports back. Without a table it does nothing. If the
// ports cannot be given back, the table goes all the same: ports that stay reserved harm the host less than services that
// stay unheard.
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

// Warnings returns what the guard could not do and can do without.
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

// install makes the table, the programs and the reserved ports what they should be, and returns in words what differed in the
// table. The table names the ports that we added, so that the next start knows them after a crash: ports are given back
// before the table forgets them, and added after it has noted them.
func (g *Guard) install() (what []string, err error) {
	defer func() { g.stale = err != nil }()
	have, err := read()
	if have == nil {
		return nil, err
	}
	if g.notes == nil {
		g.notes = have.kept()
	}
	old := g.added.plus(have.added()) // somebody may have deleted the table, but the ports are still ours
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
			added = old.minus(old.minus(added)) // none of the new ones is ours
			_, err = g.bring(nil, g.layout(added))
		}
	}
	g.added = added
	return what, err
}

// toReserve returns the ports that are reserved, those among them that others have reserved, and those that we should have
// added, when we have added old. With an error they are such that nothing is to change.
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
	return current, others, want.minus(others), nil
}

// bring makes the table what want is. have is what it is, nil if that has to be read. A table that cannot be read or changed,
// or has something that is not ours, is replaced.
func (g *Guard) bring(have, want *layout) (what []string, err error) {
	for range 2 { // somebody else may change the table between the reading and the writing
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

// interfaces returns the indexes of the v6 and the v4 interface, 0 for one that does not exist at the moment.
func (g *Guard) interfaces() (indexes [2]int) {
	for i, name := range []string{g.o.V6, g.o.V4} {
		if ifi, err := net.InterfaceByName(name); err == nil {
			indexes[i] = ifi.Index
		}
	}
	return indexes
}

// giveBack takes the ports that we added out of the reserved ones. Its error names them, since the table, which is
// about to go, is the only note of them.
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
