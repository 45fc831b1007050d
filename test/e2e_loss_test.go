package test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// The permitted additional loss of nat64d compared to the kernel's plain forwarding: one segment in so many, in the
// best of several attempts.
const (
	lossPerSegments = 10_000
	lossAttempts    = 3
	iperfSeconds    = "1"
)

// If plain forwarding reaches the first rate on a machine, nat64d must reach the second one, in bits per second of
// TCP.
const (
	plainRate   = 10e9
	gatewayRate = 5e9
)

// iperfCase is one kind of load; with down, the server sends.
type iperfCase struct {
	name string
	down bool
	udp  bool
	args []string
}

var iperfCases = []iperfCase{
	{"TCP up", false, false, nil},
	{"TCP down", true, false, []string{"-R"}},
	{"TCP up, 8 streams", false, false, []string{"-P", "8"}},
	{"TCP down, 8 streams", true, false, []string{"-R", "-P", "8"}},
	{"UDP up", false, true, []string{"-u", "-b", "200M", "-l", "1200"}},
	{"UDP down", true, true, []string{"-R", "-u", "-b", "200M", "-l", "1200"}},
}

// loss is the result of one run.
type loss struct {
	rate       float64 // bits per second read by iperf3
	sent, lost uint64  // segments of TCP, datagrams of UDP
}

func (x loss) String() string {
	return fmt.Sprintf("%.2f Gbit/s, %d of %d lost", x.rate/1e9, x.lost, x.sent)
}

// nat64d loses no more than the kernel's IPv6 forwarding between the same namespaces, and is not much slower.
func TestLossAgainstPlainForwarding(t *testing.T) {
	l := network(t, lab.Options{})
	if err := l.Forward(true); err != nil {
		t.Fatal(err)
	}
	run(t, l.Server, "iperf3", "-s", "-B", lab.Server6)
	plain := make([]loss, len(iperfCases))
	for i, c := range iperfCases {
		plain[i] = iperf(t, l, lab.Server6, c)
	}
	if err := l.Forward(false); err != nil {
		t.Fatal(err)
	}
	g := start(t, l, sparePool)
	run(t, l.Server, "iperf3", "-s", "-B", lab.Server4)
	for i, c := range iperfCases {
		t.Run(c.name, func(t *testing.T) {
			var seen []string
			for range lossAttempts {
				got := iperf(t, l, lab.Server4As6, c)
				slow := plain[i].rate >= plainRate && got.rate < gatewayRate
				if !slow && got.lost <= plain[i].lost+got.sent/lossPerSegments {
					t.Logf("plain forwarding %v; nat64d %v", plain[i], got)
					return
				}
				seen = append(seen, got.String())
			}
			t.Errorf("plain forwarding %v; nat64d %s", plain[i], strings.Join(seen, "; "))
		})
	}
	g.stop()
}

// iperf runs one load from the client and returns its loss.
func iperf(t *testing.T, l *lab.Lab, server string, c iperfCase) loss {
	t.Helper()
	sender, receiver := l.Client, l.Server
	if c.down {
		sender, receiver = receiver, sender
	}
	sent, received := counters(t, sender), counters(t, receiver)
	var result struct {
		End struct {
			Sum struct {
				Lost    uint64 `json:"lost_packets"`
				Packets uint64 `json:"packets"`
			}
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	path, env := tool(t, "iperf3")
	args := append([]string{"-J", "-c", server, "-t", iperfSeconds}, c.args...)
	command := slices.Concat(env, []string{path}, args)
	var out string
	// The server may not listen yet, or may still be serving the previous client.
	eventually(t, 30*time.Second, "iperf3 "+strings.Join(args, " "), func() (err error) {
		if out, err = l.Client.Output(limit(t, 20*time.Second), "env", command...); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	_, out, _ = strings.Cut(out, "{") // a warning may precede the JSON
	if err := json.Unmarshal([]byte("{"+out), &result); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	x := loss{rate: result.End.Received.Rate}
	if c.udp {
		// A datagram that arrived while iperf3 was too slow to read was not lost in the network.
		overrun := counters(t, receiver).Since(received).Overrun()
		x.sent, x.lost = result.End.Sum.Packets, result.End.Sum.Lost-min(overrun, result.End.Sum.Lost)
		return x
	}
	x.sent, x.lost = counters(t, sender).Since(sent).Lost()
	return x
}

func counters(t *testing.T, n *lab.Namespace) lab.Counters {
	t.Helper()
	c, err := n.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}
