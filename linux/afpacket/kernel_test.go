//go:build linux

package afpacket

import "testing"

func TestKernelVersions(t *testing.T) {
	for release, want := range map[string]bool{
		"5.15.0-91-generic": false, "6.1.0-18-amd64": false, "6.2.0": true, "6.2-rc1": true, "6.18.44-fc": true, "7.0.1": true, "": false, "x": false,
	} {
		if got := atLeast(release, 6, 2); got != want {
			t.Errorf("%q is 6.2 or newer: %v", release, got)
		}
	}
	if !UDPSuperPackets() {
		t.Error("this kernel does not support super-packets of UDP: the tests need Linux 6.2")
	}
}
