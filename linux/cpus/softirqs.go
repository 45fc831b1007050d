//go:build linux

package cpus

import (
	"os"
	"strconv"
	"strings"
)

// Our own choices: a processor is quiet if it has run less than one in quietShare of the soft interrupts for received
// packets. With fewer than enough of them nothing is known.
const (
	quietShare = 50
	enough     = 10_000
)

// Quiet returns the processors that process almost no received packets while others do. Calls at equal intervals give
// the latest one the same weight as all earlier ones together, so that a pause in the traffic changes nothing.
func (r *Reader) Quiet() (quiet Set) {
	text, err := os.ReadFile(r.proc("softirqs"))
	if err != nil {
		return Set{}
	}
	now := ParseSoftirqs(string(text), "NET_RX")
	total := uint64(0)
	load := make(map[int]uint64, len(now))
	for c, n := range now {
		load[c] = r.load[c] / 2
		if before, ok := r.last[c]; ok && n > before {
			load[c] += n - before
		}
		total += load[c]
	}
	r.last, r.load = now, load
	if total < enough {
		return Set{}
	}
	for c, n := range load {
		if n < total/quietShare {
			quiet.bits.Set(c)
		}
	}
	return quiet
}

// ParseSoftirqs returns a row of /proc/softirqs by processor. The head of the table names the processors, since those that
// are offline have no column.
func ParseSoftirqs(text, row string) map[int]uint64 {
	counts := map[int]uint64{}
	head, body, _ := strings.Cut(text, "\n")
	processors := strings.Fields(head)
	for line := range strings.Lines(body) {
		name, rest, _ := strings.Cut(line, ":")
		if strings.TrimSpace(name) != row {
			continue
		}
		for i, f := range strings.Fields(rest) {
			if i >= len(processors) {
				break
			}
			c, errName := strconv.ParseUint(strings.TrimPrefix(processors[i], "CPU"), 10, 16)
			n, errCount := strconv.ParseUint(f, 10, 64)
			if errName == nil && errCount == nil && c < most {
				counts[int(c)] = n
			}
		}
	}
	return counts
}
