//go:build linux

package main

import "testing"

func TestParseFlagsSelectsGateways(t *testing.T) {
	t.Parallel()
	o, err := parseFlags([]string{"-reps", "1", jool, kernelNAT})
	if err != nil || len(o.gateways) != 2 || o.gateways[0].name != jool || o.gateways[1].name != kernelNAT {
		t.Errorf("options %+v, %v", o, err)
	}
	if o, err = parseFlags(nil); err != nil || len(o.gateways) != len(gateways) {
		t.Errorf("without names %d gateways, %v, want all %d", len(o.gateways), err, len(gateways))
	}
	for _, args := range [][]string{{"nonsense"}, {"-reps", "0"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
