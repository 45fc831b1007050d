//go:build linux

package daemon

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/table"
)

// limits describes the settings that can restrict the memory of a process.
const limits = "the limit: ulimit -v, LimitAS= in the systemd unit, or vm.overcommit_ratio with vm.overcommit_memory=2"

const (
	goMemory = 128 << 20 // for Go's runtime, which aborts with a trace if the kernel refuses memory
	perPort  = 34 << 20  // for received packets
)

// CheckMemory returns an error if the kernel refuses the memory that any command may need.
func CheckMemory() error {
	if err := table.Room(goMemory); err != nil {
		return fmt.Errorf("%w. sessions.max decides how much more the tables need. Raise %s", err, limits)
	}
	return nil
}

// affordable creates the gateway. It returns an error if its tables do not fit, or leave too little memory for the
// rest.
func (d *Daemon) affordable(c *config.Config, o gateway.Options) error {
	rest := goMemory + 2*o.Workers*perPort + c.Fragments.Memory
	if err := table.Room(rest); err != nil {
		return fmt.Errorf("packets and fragments do not fit: %w. Raise %s", err, limits)
	}
	err := table.Reserved(func() { d.gateway = gateway.New(o) })
	if err == nil {
		err = table.Room(rest)
	}
	return tooLarge(c, err)
}

// afford reserves the additional memory that the tables of a running gateway need for next.
func (d *Daemon) afford(next *config.Config) error {
	return tooLarge(next, d.gateway.Sessions.Prepare(d.sessionConfig(next)))
}

func tooLarge(c *config.Config, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the tables for sessions.max: %d do not fit: %w. Write a smaller sessions.max, or raise %s", c.Sessions.Max, err, limits)
}

// withMemoryHint adds a hint about memory limits to an out-of-memory error.
func withMemoryHint(err error) error {
	var told *table.NoMemory
	if !errors.Is(err, unix.ENOMEM) || errors.As(err, &told) {
		return err
	}
	return fmt.Errorf("%w. If the machine has memory, raise %s", err, limits)
}
