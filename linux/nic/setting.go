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

// setting is a setting of a NIC that is on or off.
type setting struct {
	name  string // name in ethtool(8), or of the file in /sys/class/net/NIC
	want  bool
	read  func(*net.Interface) (bool, error)
	write func(*net.Interface, bool) error
}

// of returns a description of the setting of a NIC, such as "rx-gro of v6 on".
func (s *setting) of(i *net.Interface, on bool) string {
	return fmt.Sprintf("%s of %s %s", s.name, i.Name, word(on))
}

// refused returns an error for a setting that could not be set.
func (s *setting) refused(i *net.Interface, err error) error {
	return fmt.Errorf("cannot turn %s: %w", s.of(i, s.want), err)
}

// UDPForwarding is the setting that coalesces UDP datagrams.
const UDPForwarding = "rx-udp-gro-forwarding"

// settings are in the order in which they are set: a veth has NAPI, which threaded needs, only while GRO is on.
var settings = [...]setting{
	feature("rx-lro", false),      // a router must not use LRO: its merged packets cannot be segmented again
	feature("rx-gro-list", false), // takes precedence over rx-udp-gro-forwarding, and keeps packets in separate buffers
	feature("rx-gro", true),
	feature(UDPForwarding, true), // without it, GRO coalesces only datagrams for local sockets that request it
	{"threaded", true, readThreaded, writeThreaded},
}

// On returns the names of the settings of a NIC that are on.
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

// feature returns the setting for a feature of ethtool.
func feature(name string, want bool) setting {
	return setting{
		name: name,
		want: want,
		read: func(i *net.Interface) (bool, error) {
			f, err := ethtool.Get(i.Name)
			return f.Active[name], err // a feature that the kernel does not know is off
		},
		write: func(i *net.Interface, on bool) error {
			f, err := ethtool.Get(i.Name)
			if err != nil {
				return err
			}
			if !f.Changeable[name] {
				return errors.New("the NIC does not have this feature, or it cannot be changed")
			}
			if err := ethtool.Set(i.Name, map[string]bool{name: on}); err != nil {
				return err
			}
			if f, err = ethtool.Get(i.Name); err != nil || f.Active[name] != on { // the kernel accepts changes that it then does not make
				return errors.Join(errors.New("the NIC does not support it together with its other settings"), err)
			}
			return nil
		},
	}
}

// sysfs shows the NICs of the network namespace in which sysfs was mounted.
const sysfs = "/sys/class/net"

func readThreaded(i *net.Interface) (bool, error) {
	if err := ours(i); err != nil {
		return false, err
	}
	mode, err := readNumber(i, "threaded")
	return mode != 0, err // 2: threads that poll without sleeping
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

// ours checks that sysfs shows this NIC, not a NIC of the same name in another namespace. Namespaces share indexes,
// but rarely hardware addresses.
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
	return fmt.Errorf("%s shows another network namespace: mount sysfs in this one, as ip netns exec does", sysfs)
}

func readNumber(i *net.Interface, file string) (int, error) {
	b, err := os.ReadFile(filepath.Join(sysfs, i.Name, file))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
