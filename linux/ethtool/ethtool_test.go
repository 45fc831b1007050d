//go:build linux

package ethtool_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"nat64d/lab"
	"nat64d/linux/ethtool"
)

// Get agrees with ethtool -k for all features of a NIC, before and after Set has inverted each of them.
func TestFeaturesAgreeWithEthtoolCommand(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	err = l.Gateway.Do(func() error {
		before := agrees(t, l.NIC4)
		for name := range before.Changeable {
			want := !before.Active[name]
			if err := ethtool.Set(l.NIC4, map[string]bool{name: want}); err != nil {
				t.Error(err)
			}
			if now := agrees(t, l.NIC4); now.Active[name] != want && !want {
				t.Errorf("%s cannot be switched off", name)
			}
		}
		if err := ethtool.Set(l.NIC4, map[string]bool{"no-such-feature": true}); err == nil || !strings.Contains(err.Error(), "features of v4: ") {
			t.Errorf("an unknown feature: %v", err)
		}
		if _, err := ethtool.Get("nosuch"); err == nil || !strings.Contains(err.Error(), "features of nosuch: ") {
			t.Errorf("an unknown NIC: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// kernelNames maps names that ethtool -k prints to the kernel's names.
var kernelNames = map[string]string{
	"rx-checksumming": "rx-checksum", "generic-receive-offload": "rx-gro", "large-receive-offload": "rx-lro",
	"rx-vlan-offload": "rx-vlan-hw-parse", "tx-vlan-offload": "tx-vlan-hw-insert", "ntuple-filters": "rx-ntuple-filter",
	"receive-hashing": "rx-hashing",
}

// sums are the lines of ethtool -k that summarize others.
var sums = map[string]bool{
	"tx-checksumming": true, "scatter-gather": true, "tcp-segmentation-offload": true, "generic-segmentation-offload": true,
	"udp-fragmentation-offload": true,
}

// agrees compares the features of a NIC with the output of ethtool -k.
func agrees(t *testing.T, nic string) ethtool.Features {
	t.Helper()
	f, err := ethtool.Get(nic)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ethtool", "-k", nic).Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range bytes.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSpace(string(line)), ": ")
		if own, known := kernelNames[name]; known {
			name = own
		}
		if value == "" || sums[name] {
			continue
		}
		compared++
		if on, changeable := strings.HasPrefix(value, "on"), !strings.Contains(value, "[fixed]"); f.Active[name] != on || f.Changeable[name] != changeable {
			t.Errorf("%s is %q: active %v, changeable %v", name, value, f.Active[name], f.Changeable[name])
		}
	}
	if compared < 40 {
		t.Errorf("only %d features compared: %s", compared, out)
	}
	return f
}
