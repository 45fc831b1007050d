//go:build linux

package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters are the kernel's protocol counters of a namespace, by names such as Tcp.RetransSegs,
// TcpExt.TCPDSACKRecvSegs and, for IPv6, Udp6RcvbufErrors.
type Counters map[string]uint64

// Counters reads /proc/net/snmp, netstat and snmp6 of the namespace.
func (n *Namespace) Counters() (Counters, error) {
	all := Counters{}
	err := n.Do(func() error {
		for name, parse := range map[string]func(string) error{"snmp": all.parse, "netstat": all.parse, "snmp6": all.parse6} {
			path := "/proc/thread-self/net/" + name // /proc/net belongs to the main thread of the process
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if err := parse(string(b)); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		return nil
	})
	return all, err
}

// parse adds pairs of lines: "Tcp: RtoAlgorithm RtoMin", then "Tcp: 1 200". It skips negative values, which are
// settings rather than counters.
func (c Counters) parse(text string) error {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) < 2 || len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("line %d: must name the values of line %d", i+1, i+2)
		}
		group := strings.TrimSuffix(names[0], ":")
		for j := 1; j < len(names); j++ {
			if v, err := strconv.ParseUint(values[j], 10, 64); err == nil {
				c[group+"."+names[j]] = v
			}
		}
	}
	return nil
}

// parse6 adds lines that consist of a name and a value: "Udp6RcvbufErrors 0".
func (c Counters) parse6(text string) error {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		f := strings.Fields(line)
		if len(f) != 2 {
			return fmt.Errorf("line %d: must be a name and a value", i+1)
		}
		v, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
		c[f[0]] = v
	}
	return nil
}

// Since returns the differences to an earlier reading.
func (c Counters) Since(earlier Counters) Counters {
	d := make(Counters, len(c))
	for name, v := range c {
		d[name] = v - earlier[name]
	}
	return d
}

// Overrun returns how many UDP datagrams the kernel dropped because the receive buffer of their socket was full.
func (c Counters) Overrun() uint64 { return c["Udp.RcvbufErrors"] + c["Udp6RcvbufErrors"] }

// Lost returns how many TCP segments the namespace sent and how many of them were lost and retransmitted. It excludes
// spurious retransmissions, which the receiver reports (RFC 2883).
func (c Counters) Lost() (sent, lost uint64) {
	again, needless := c["Tcp.RetransSegs"], c["TcpExt.TCPDSACKRecvSegs"]
	return c["Tcp.OutSegs"], again - min(again, needless)
}
