package test

import (
	"fmt"
	"strings"
	"testing"

	"nat64d/lab"
)

// The permitted loss with offloads: manage if senders do not segment in their NICs: one segment in managedLoss
// thousand. The queue of a veth with threaded NAPI has 256 entries, which eight streams fill before its thread on a
// busy processor is scheduled.
const managedLoss = 3

// Ends that verify checksums in software find no wrong ones, whatever the gateway coalesces, segments and computes.
func TestChecksumsAreCorrect(t *testing.T) {
	for _, offloads := range []string{"leave", "manage"} {
		t.Run(offloads, func(t *testing.T) {
			l := network(t, lab.Options{NoOffload: true})
			run(t, l.Server, "iperf3", "-s", "-B", lab.Server4)
			g := startManaged(t, l, offloads)
			ends := []*lab.Namespace{l.Client, l.Server}
			before := []lab.Counters{counters(t, ends[0]), counters(t, ends[1])}
			for _, c := range iperfCases[2:] { // eight streams, and UDP
				got := iperf(t, l, lab.Server4As6, c)
				t.Logf("%s: %v", c.name, got)
				if got.sent == 0 || got.lost > got.sent/managedLoss {
					t.Errorf("%s: %v", c.name, got)
				}
			}
			for i, end := range ends {
				if err := wrongChecksums(counters(t, end).Since(before[i])); err != nil {
					t.Errorf("%s: %v", end.Name, err)
				}
			}
			g.stop()
		})
	}
}

// wrongChecksums returns an error if a host has received a wrong checksum.
func wrongChecksums(c lab.Counters) error {
	known := 0
	for name, n := range c {
		if strings.HasSuffix(name, "InCsumErrors") {
			known++
			if n != 0 {
				return fmt.Errorf("%s: %d", name, n)
			}
		}
	}
	if known < 5 { // TCP, and UDP and ICMP of both families
		return fmt.Errorf("only %d counters of wrong checksums", known)
	}
	return nil
}
