//go:build linux

package nic

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"nat64d/linux/ethtool"
)

// setting is something of a NIC that is on or off.
type setting struct {
	name  string // as ethtool(8) has it, or the file below /sys/class/net
	want  bool
	read  func(*net.Interface) (bool, error)
	write func(*net.Interface, bool) error
}

// of says what the setting is of a NIC.
func (s *setting) of(i *net.Interface, on bool) string {
	return fmt.Sprintf("%s of %s %s", s.name, i.Name, word(on))
}

// refused says why the setting is not what it should be.
func (s *setting) refused(i *net.Interface, err error) error {
	return fmt.Errorf("%s cannot be had: %w", s.of(i, s.want), err)
}

// UDPForwarding is the setting that has datagrams joined.
const UDPForwarding = "rx-udp-gro-forwarding"

// settings are in the order in which they are made: on a veth there is NAPI, and so something to be threaded, only once
// GRO is on.
var settings = [...]setting{
	feature("rx-lro", false),      // a router must not have it: it merges what cannot be taken apart again
	feature("rx-gro-list", false), // it would go before rx-udp-gro-forwarding, and keeps packets apart in memory
	feature("rx-gro", true),
	feature(UDPForwarding, true), // else GRO leaves alone what no socket of the host asks for
	{"threaded", true, readThreaded, writeThreaded},
}

// On returns the names of those settings of a NIC that are on, whoever switched them on.
func On(name string) (on []string, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	var errs []error
	for n := range settings {
		s := &settings[n]
		is, err := s.read(i)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of %s: %w", s.name, name, err))
		}
		if is {
			on = append(on, s.name)
		}
	}
	return on, errors.Join(errs...)
}

// feature returns the setting of a feature of ethtool.
func feature(name string, want bool) setting {
	return setting{
		name: name,
		want: want,
		read: func(i *net.Interface) (bool, error) {
			f, err := ethtool.Get(i.Name)
			return f.Active[name], err // a kernel that does not know it does not do it
		},
		write: func(i *net.Interface, on bool) error {
			f, err := ethtool.Get(i.Name)
			if err != nil {
				return err
			}
			if !f.Changeable[name] {
				return errors.New("the NIC does not have it, or not as something that can be changed")
			}
			if err := ethtool.Set(i.Name, map[string]bool{name: on}); err != nil {
				return err
			}
			if f, err = ethtool.Get(i.Name); err != nil || f.Active[name] != on { // the kernel says yes to what it will not do
				return errors.Join(errors.New("the NIC does not do it together with its other settings"), err)
			}
			return nil
		},
	}
}

// sysfs shows the NICs of the network namespace in which it was mounted.
const sysfs = "/sys/class/net"

func readThreaded(i *net.Interface) (bool, error) {
	if err := ours(i); err != nil {
		return false, err
	}
	mode, err := readNumber(i, "threaded")
	return mode != 0, err // 2 is threads that never sleep
}

func writeThreaded(i *net.Interface, on bool) error {
	if err := ours(i); err != nil {
		return err
	}
	text := "0"
	if on {
		text = "1"
	}
	err := os.WriteFile(filepath.Join(sysfs, i.Name, "threaded"), []byte(text), 0)
	if errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EOPNOTSUPP) {
		return fmt.Errorf("%w: the interface is down, or its driver has no NAPI", err)
	}
	return err
}

// ours makes sure that sysfs shows this NIC and not one of the same name in another namespace. Indexes begin anew in
// each; hardware addresses seldom do.
func ours(i *net.Interface) error {
	index, err := readNumber(i, "ifindex")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && index == i.Index {
		address, err := os.ReadFile(filepath.Join(sysfs, i.Name, "address"))
		if err == nil && strings.TrimSpace(string(address)) == i.HardwareAddr.String() {
			return nil
		}
	}
	return fmt.Errorf("%s is not of this network namespace: mount one that is, as ip netns exec does", sysfs)
}

func readNumber(i *net.Interface, file string) (int, error) {
	b, err := os.ReadFile(filepath.Join(sysfs, i.Name, file))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
