//go:build linux

package nic_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"nat64d/lab"
	"nat64d/linux/nic"
)

// network returns a lab for the test.
func network(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// within calls f in the gateway's namespace on a thread whose /sys shows that namespace. The thread's mounts cannot
// be restored, so it ends with its goroutine.
func within(t *testing.T, l *lab.Lab, f func()) {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- l.Gateway.Do(func() error {
			if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
				return err
			}
			if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
				return err
			}
			if err := syscall.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
				return err
			}
			f()
			return nil
		})
	}()
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// kept holds the notes that would survive a crash.
type kept struct{ notes nic.Notes }

func (k *kept) keep(n nic.Notes) error {
	k.notes = maps.Clone(n)
	return nil
}

// expect checks which settings of a NIC are on, with nic.On, ethtool and sysfs.
func expect(t *testing.T, when, name string, want ...string) {
	t.Helper()
	got, err := nic.On(name)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%s: %s has %q, want %q (%v)", when, name, got, want, err)
	}
	said, err := exec.Command("ethtool", "-k", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	for feature, line := range map[string]string{"rx-gro": "generic-receive-offload", "rx-udp-gro-forwarding": "rx-udp-gro-forwarding"} {
		if on := strings.Contains(string(said), line+": on"); on != slices.Contains(want, feature) {
			t.Errorf("%s: ethtool says of %s that %s is on: %v", when, name, feature, on)
		}
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	threads, err := nic.NAPIThreads(i)
	if on := len(threads) > 0; err != nil || on != slices.Contains(want, "threaded") {
		t.Errorf("%s: %s has %d threads (%v)", when, name, len(threads), err)
	}
}

// set calls SetUp and fails the test on any warning.
func set(t *testing.T, m *nic.Manager) (changed []string) {
	t.Helper()
	changed, warnings := m.SetUp()
	for _, w := range warnings {
		t.Error(w)
	}
	return changed
}

func putBack(t *testing.T, m *nic.Manager) {
	t.Helper()
	if err := m.PutBack(); err != nil {
		t.Error(err)
	}
}

var all = []string{"rx-gro", "rx-udp-gro-forwarding", "threaded"}

func TestSetUpAndPutBack(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		ethtool(t, l.NIC4, "gro", "on")
		var k kept
		m := nic.New([]string{l.NIC6, l.NIC4}, nic.Managed(true), nil, k.keep)
		if changed := set(t, m); len(changed) != 5 || !slices.Contains(changed, "rx-gro of v6 on") {
			t.Errorf("changed: %q", changed)
		}
		expect(t, "set up", l.NIC6, all...)
		expect(t, "set up", l.NIC4, all...)
		if len(k.notes) != 2 {
			t.Errorf("notes %v", k.notes)
		}
		ethtool(t, l.NIC6, "gro", "off")
		if changed := set(t, m); len(changed) != 0 {
			t.Errorf("SetUp overwrote a later change: %q", changed)
		}
		ethtool(t, l.NIC6, "gro", "on")
		putBack(t, m)
		expect(t, "put back", l.NIC6)
		expect(t, "put back", l.NIC4, "rx-gro")
		if len(k.notes) != 0 {
			t.Errorf("notes %v remain", k.notes)
		}
	})
}

func ethtool(t *testing.T, name, feature, value string) {
	t.Helper()
	if out, err := exec.Command("ethtool", "-K", name, feature, value).CombinedOutput(); err != nil {
		t.Fatalf("ethtool: %v: %s", err, out)
	}
}

// SetUp does not change the settings in leave.
func TestSetUpSkipsExcludedSettings(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		var k kept
		m := nic.New([]string{l.NIC6}, nic.Managed(false), nil, k.keep)
		set(t, m)
		expect(t, "set up", l.NIC6, "rx-gro", "threaded")
		putBack(t, m)
		expect(t, "put back", l.NIC6)
	})
}

// The original settings survive managers that end without PutBack: a second one with their notes and a third one that
// manages fewer NICs.
func TestOriginalSettingsSurviveCrash(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		var k kept
		set(t, nic.New([]string{l.NIC6, l.NIC4}, nic.Managed(true), nil, k.keep))
		second := nic.New([]string{l.NIC6, l.NIC4}, nic.Managed(true), k.notes, k.keep)
		if changed := set(t, second); len(changed) != 0 {
			t.Errorf("changed: %q", changed)
		}
		third := nic.New([]string{l.NIC6}, nic.Managed(true), k.notes, k.keep)
		set(t, third)
		expect(t, "managed still", l.NIC6, all...)
		expect(t, "managed no longer", l.NIC4)
		if len(k.notes) != 1 {
			t.Errorf("notes %v, want those of one NIC", k.notes)
		}
		putBack(t, third)
		expect(t, "put back", l.NIC6)

		set(t, nic.New([]string{l.NIC6}, nic.Managed(true), nil, k.keep))
		set(t, nic.New(nil, nic.Managed(true), k.notes, k.keep))
		expect(t, "put back by one that manages nothing", l.NIC6)
		if len(k.notes) != 0 {
			t.Errorf("notes %v remain", k.notes)
		}
	})
}

func TestOneNICForBothSides(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{OneNIC: true})
	within(t, l, func() {
		var k kept
		m := nic.New([]string{"eth0", "eth0"}, nic.Managed(true), nil, k.keep)
		if changed := set(t, m); len(changed) != 3 {
			t.Errorf("changed: %q", changed)
		}
		expect(t, "set up", "eth0", all...)
		putBack(t, m)
		expect(t, "put back", "eth0")
	})
}

// A new NIC with the name of a deleted one has its own original settings.
func TestSetUpConfiguresReplacedNIC(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		var k kept
		m := nic.New([]string{l.NIC6, l.NIC4}, nic.Managed(true), nil, k.keep)
		set(t, m)
		if err := l.Unplug6(); err != nil {
			t.Fatal(err)
		}
		if changed := set(t, m); len(changed) != 0 || len(k.notes) != 1 {
			t.Errorf("a NIC has gone: changed %q, notes %v", changed, k.notes)
		}
		if err := l.Plug6(); err != nil {
			t.Fatal(err)
		}
		ethtool(t, l.NIC6, "gro", "on")
		set(t, m)
		expect(t, "come again", l.NIC6, all...)
		putBack(t, m)
		expect(t, "put back", l.NIC6, "rx-gro")
		expect(t, "put back", l.NIC4)
	})
}

// The loopback has no NAPI; a veth has none while it is down.
func TestSetUpReportsUnsupportedSettings(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		if err := l.Gateway.SetUp(l.NIC4, false); err != nil {
			t.Fatal(err)
		}
		var k kept
		m := nic.New([]string{"lo", l.NIC4}, nic.Managed(true), nil, k.keep)
		_, warnings := m.SetUp()
		if got := fmt.Sprint(warnings); len(warnings) != 2 || !strings.Contains(got, "cannot turn threaded of lo on: ") ||
			!strings.Contains(got, "cannot turn threaded of v4 on: ") || !strings.Contains(got, "NAPI") {
			t.Errorf("warnings %v", warnings)
		}
		expect(t, "refused in part", l.NIC4, "rx-gro", "rx-udp-gro-forwarding")
		if changed, warnings := m.SetUp(); len(changed) != 0 || len(warnings) != 0 {
			t.Errorf("SetUp tried again without a link event: %q, %v", changed, warnings)
		}
		if err := l.Gateway.SetUp(l.NIC4, true); err != nil {
			t.Fatal(err)
		}
		set(t, m)
		expect(t, "up", l.NIC4, all...)
		putBack(t, m)
		expect(t, "put back", l.NIC4)
	})
}

// SetUp changes nothing if it cannot save the original settings, because a crash could then not be repaired.
func TestSetUpChangesNothingWithoutNotes(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		full := errors.New("no room")
		m := nic.New([]string{l.NIC6}, nic.Managed(true), nil, func(nic.Notes) error { return full })
		changed, warnings := m.SetUp()
		if len(changed) != 0 || len(warnings) != 1 || !errors.Is(warnings[0], full) {
			t.Errorf("changed %q, warnings %v", changed, warnings)
		}
		expect(t, "not noted", l.NIC6)
	})
}

// Without a /sys of its namespace, as in a container, generic netlink switches the threads, from Linux 6.17 on.
func TestThreadsWithoutSys(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	err := l.Gateway.Do(func() error {
		i, err := net.InterfaceByName(l.NIC6)
		if err != nil {
			return err
		}
		var k kept
		m := nic.New([]string{l.NIC6}, nic.Managed(true), nil, k.keep)
		set(t, m)
		if threads, err := nic.NAPIThreads(i); err != nil || len(threads) != 1 {
			t.Errorf("threads %v (%v)", threads, err)
		}
		putBack(t, m)
		if threads, err := nic.NAPIThreads(i); err != nil || len(threads) != 0 {
			t.Errorf("after PutBack: threads %v (%v)", threads, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A setting that follows the load is turned on, and off again to what it was.
func TestSwitch(t *testing.T) {
	t.Parallel()
	l := network(t, lab.Options{})
	within(t, l, func() {
		ethtool(t, l.NIC4, "rx-udp-gro-forwarding", "on") // by an administrator
		var k kept
		m := nic.New([]string{l.NIC6, l.NIC4}, nic.Static(), nil, k.keep)
		set(t, m)
		expect(t, "set up", l.NIC6, "rx-gro")
		for range 2 {
			for _, name := range []string{nic.UDPForwarding, nic.Threaded} {
				if _, warnings := m.Switch(name, true); len(warnings) > 0 {
					t.Error(warnings)
				}
			}
			expect(t, "on", l.NIC6, all...)
			expect(t, "on", l.NIC4, all...)
			for _, name := range []string{nic.UDPForwarding, nic.Threaded} {
				if _, warnings := m.Switch(name, false); len(warnings) > 0 {
					t.Error(warnings)
				}
			}
			expect(t, "off", l.NIC6, "rx-gro")
			expect(t, "off", l.NIC4, "rx-gro", "rx-udp-gro-forwarding")
		}
		if _, warnings := m.Switch(nic.Threaded, true); len(warnings) > 0 {
			t.Error(warnings)
		}
		if err := l.Unplug6(); err != nil {
			t.Fatal(err)
		}
		if err := l.Plug6(); err != nil {
			t.Fatal(err)
		}
		set(t, m)
		expect(t, "a new NIC", l.NIC6, "rx-gro", "threaded")
		set(t, nic.New(nil, nil, k.notes, k.keep)) // the next start, after a crash
		expect(t, "put back", l.NIC6)
		expect(t, "put back", l.NIC4, "rx-udp-gro-forwarding")
	})
}
