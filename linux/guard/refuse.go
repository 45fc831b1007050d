//go:build linux

package guard

import (
	"errors"
	"fmt"

	"nat64d/pool4"
)

// leastPorts is how many ports the host must keep for its own connections.
const leastPorts = 1000

// Refuse says why entries, beside what is guarded already, would harm the host; nil if they do not. On an address that
// the host owns, a range may neither cover a port on which a program of the host listens or has a connection, for both
// would be cut off, nor leave the host fewer than 1,000 ports for its own connections. Any goroutine may call it at any
// time.
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
		errs = append(errs, scarce(entries))
	}
	return errors.Join(errs...)
}

// namedSockets is how many sockets a refusal names.
const namedSockets = 5

// remedy says what frees the port.
func (s *Socket) remedy() string {
	if s.Connected() {
		return "end the connection"
	}
	return "stop the program"
}

// scarce says whether reserving the ports of entries would leave too few.
func scarce(entries []pool4.Entry) error {
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
