//go:build linux

package guard

import (
	"errors"
	"fmt"

	"nat64d/pool4"
)

// leastPorts is the minimum number of ephemeral ports that the host keeps.
const leastPorts = 1000

// Refuse returns an error if entries, together with the covered ones, would harm the host. On an address that the
// host owns, a range must not cover a port on which a program of the host listens or has a connection, because the
// guard would cut it off, and must leave the host at least 1,000 ephemeral ports. Refuse is safe for concurrent use.
func (g *Guard) Refuse(entries []pool4.Entry) error {
	found, err := g.Sockets(entries)
	if err != nil {
		return err
	}
	var errs []error
	named := found[:min(len(found), namedSockets)]
	for i, description := range Describe(named) {
		errs = append(errs, fmt.Errorf("pool4 %v: %s, which would be cut off: leave that port out, %s, "+
			"or force it (--force, or host.force in the configuration)", named[i].Entry, description, named[i].remedy()))
	}
	if n := len(found) - namedSockets; n > 0 {
		errs = append(errs, fmt.Errorf("%d more sockets of this host would be cut off: ss -tuanp lists them", n))
	}
	if g.o.ReservePorts {
		errs = append(errs, Scarce(entries))
	}
	return errors.Join(errs...)
}

// namedSockets is the maximum number of sockets that an error lists.
const namedSockets = 5

// remedy describes how to free the port.
func (s *Socket) remedy() string {
	if s.Connected() {
		return "end the connection"
	}
	return "stop the program"
}

// Scarce returns an error if reserving the ports of entries would leave the host too few.
func Scarce(entries []pool4.Entry) error {
	lo, hi, err := portRange()
	if err != nil {
		return err
	}
	reserved, err := reservedPorts()
	if err != nil {
		return err
	}
	want, err := ownPorts(entries)
	if err != nil {
		return err
	}
	total := int(hi) - int(lo) + 1
	left := total - reserved.plus(want).within(lo, hi)
	if want.within(lo, hi) == 0 || left >= leastPorts {
		return nil
	}
	return fmt.Errorf("pool4 on an address of this host would leave it %d of the %d ports for its own connections "+
		"(net.ipv4.ip_local_port_range %d-%d), and it needs %d: use fewer ports, ports outside that range, an address "+
		"of its own for pool4, or force it (--force, or host.force in the configuration)", left, total, lo, hi, leastPorts)
}
