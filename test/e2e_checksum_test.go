package test

import (
	"strings"
	"testing"

	"nat64d/lab"
)

// What may be lost with offloads: manage where senders do not segment in their NICs: one segment in so many. The queue of a veth
// that receives in a thread has 256 places, which eight streams fill before a thread on a busy processor gets its turn.
const managedLoss = 3

// Ends that verify checksums themselves find none wrong, whatever is joined, cut and computed on the way.
func TestNoChecksumIsWrong(t *testing.T) {
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
				known := 0
				for name, n := range counters(t, end).Since(before[i]) {
					if strings.HasSuffix(name, "InCsumErrors") {
						known++
						if n != 0 {
							t.Errorf("%s of %s: %d", name, end.Name, n)
						}
					}
				}
				if known < 5 { // TCP, and UDP and ICMP of both families
					t.Errorf("%s has only %d counters of wrong checksums", end.Name, known)
				}
			}
			g.stop()
		})
	}
}
