//go:build linux

package nic

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"nat64d/linux/ethtool"
)

// setting is a setting of a NIC that is on or off.
type setting struct {
	name     string // name in ethtool(8), or of the file in /sys/class/net/NIC
	note     string // name in a note, which must be short
	optional bool   // a NIC that does not support it is no reason for a warning
	read     func(*net.Interface) (bool, error)
	write    func(*net.Interface, bool) error
}

// of returns a description of the setting of a NIC, such as "rx-gro of v6 on".
func (s *setting) of(i *net.Interface, on bool) string {
	return fmt.Sprintf("%s of %s %s", s.name, i.Name, word(on))
}

// refused returns an error for a setting that could not be set.
func (s *setting) refused(i *net.Interface, on bool, err error) error {
	return fmt.Errorf("cannot turn %s: %w", s.of(i, on), err)
}

// The settings that follow the load (Controller).
const (
	UDPForwarding = "rx-udp-gro-forwarding" // receive offload coalesces UDP datagrams
	Threaded      = "threaded"              // threads receive packets, instead of soft interrupts
)

// settings are in the order in which they are set: a veth has NAPI, which threaded needs, only while GRO is on.
var settings = [...]setting{
	feature("rx-lro", "rx-lro"),
	feature("rx-gro-list", "rx-gro-list"),
	feature("rx-gro", "rx-gro"),
	feature(UDPForwarding, UDPForwarding),
	sending("tx-tcp-segmentation", "tso"),
	sending("tx-tcp6-segmentation", "tso6"),
	sending("tx-udp-segmentation", "uso"),
	{Threaded, Threaded, false, readThreaded, writeThreaded},
}

// Wanted are values of settings, by name. Settings that are missing are not changed.
type Wanted map[string]bool

// Static returns the values of settings that are right under any load. A router must not use LRO, whose packets cannot
// be segmented again; rx-gro-list takes precedence over UDPForwarding, and keeps packets in separate buffers.
func Static() Wanted {
	return Wanted{
		"rx-lro": false, "rx-gro-list": false, "rx-gro": true,
		"tx-tcp-segmentation": true, "tx-tcp6-segmentation": true, "tx-udp-segmentation": true,
	}
}

// Managed returns the values of settings for interfaces.offloads: manage. udp reports whether packets of coalesced
// datagrams can be received.
func Managed(udp bool) Wanted {
	w := Wanted{"rx-lro": false, "rx-gro-list": false, "rx-gro": true, Threaded: true}
	if udp {
		w[UDPForwarding] = true
	}
	return w
}

// Shown returns the names of the settings that On can return.
func Shown() (names []string) {
	for n := range settings {
		if s := &settings[n]; !s.optional {
			names = append(names, s.name)
		}
	}
	return names
}

// On returns the names of the settings for receiving that are on.
func On(name string) (on []string, err error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	var errs []error
	for n := range settings {
		s := &settings[n]
		if s.optional {
			continue
		}
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

// sending returns the setting for a feature of ethtool that leaves the segmentation of sent packets to the NIC.
func sending(name, note string) setting {
	s := feature(name, note)
	s.optional = true
	return s
}

// feature returns the setting for a feature of ethtool.
func feature(name, note string) setting {
	return setting{
		name: name,
		note: note,
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
				_ = ethtool.Set(i.Name, map[string]bool{name: !on}) // else it makes them when another setting changes
				return errors.Join(errors.New("the NIC does not support it together with its other settings"), err)
			}
			return nil
		},
	}
}

// sysfs shows the NICs of the network namespace in which sysfs was mounted.
const sysfs = "/sys/class/net"

// Files returns the directories below which settings of the NICs are written. NICs that come later are covered if they are virtual
// ones, or on the same device.
func Files(names ...string) []string {
	list := []string{"/sys/devices/virtual/net"}
	for _, name := range names {
		if dir, err := filepath.EvalSymlinks(filepath.Join(sysfs, name)); err == nil {
			list = append(list, filepath.Dir(dir))
		}
	}
	return list
}

// readThreaded asks generic netlink, or /sys of a kernel before Linux 6.17.
func readThreaded(i *net.Interface) (bool, error) {
	ns, failed := napis(i)
	if settable(ns) {
		return slices.ContainsFunc(ns, func(n napi) bool { return n.threaded != 0 }), nil
	}
	if err := ours(i); err != nil {
		if failed == nil && len(ns) == 0 {
			return false, nil // without a receive context there is no thread
		}
		return false, err
	}
	mode, err := readNumber(i, "threaded")
	return mode != 0, err // 2: threads that poll without sleeping
}

// writeThreaded uses generic netlink, which requires CAP_NET_ADMIN but no writable /sys.
func writeThreaded(i *net.Interface, on bool) error {
	if ns, err := napis(i); err == nil && settable(ns) {
		return setThreaded(ns, on)
	}
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
