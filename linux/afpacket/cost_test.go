//go:build linux

package afpacket_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/linux/afpacket"
	"nat64d/packet"
)

// round sends a batch and receives it.
func round(tb testing.TB, tx, rx *afpacket.Port, out []packet.Out, fs []packet.Frame) {
	refused, err := tx.Send(out)
	if refused != 0 || err != nil {
		tb.Fatalf("Send: %d refused, %v", refused, err)
	}
	for left := len(out); left > 0; {
		n, err := rx.Receive(fs, patience)
		if n == 0 || err != nil {
			tb.Fatalf("Receive: %d, %v", n, err)
		}
		left -= n
	}
}

// mixed returns a batch of small packets; if every is not 0, every n-th is a super-packet.
func mixed(n, every int, from, to *end) []packet.Out {
	out := make([]packet.Out, n)
	for i := range out {
		ip, offload := small(i, 24), packet.Offload{}
		if every != 0 && i%every == 0 {
			ip, offload = super(i, 30*1440)
		}
		out[i] = from.to(to, unix.ETH_P_IPV6, ip, offload)
	}
	return out
}

func TestSendAndReceiveDoNotAllocate(t *testing.T) {
	for _, e := range engines {
		t.Run(e.String(), func(t *testing.T) {
			left, right := newWire(t)
			left.enter(t) // so that bursts are used
			o := afpacket.Options{Family: packet.V6, Engine: e, BusyPoll: afpacket.AdaptivePoll}
			tx, rx := left.openWith(t, afpacket.OpenSender, o), right.open(t, o)
			out, fs := mixed(16, 6, left, right), make([]packet.Frame, 64)
			if n := testing.AllocsPerRun(50, func() { round(t, tx, rx, out, fs) }); n != 0 {
				t.Errorf("%v allocations for a batch", n)
			}
			idle := func(wait time.Duration) func() {
				return func() {
					if n, err := rx.Receive(fs, wait); n != 0 || err != nil {
						t.Fatalf("Receive: %d, %v", n, err)
					}
				}
			}
			if n := testing.AllocsPerRun(50, idle(0)); n != 0 {
				t.Errorf("%v allocations for a Receive without packets", n)
			}
			if e == afpacket.Simple {
				return // the network poller returns an error for each timeout
			}
			if n := testing.AllocsPerRun(5, idle(time.Millisecond)); n != 0 {
				t.Errorf("%v allocations for a wait without packets", n)
			}
		})
	}
}

// BenchmarkWire sends and receives batches over a veth pair; its result includes the kernel's cost on both sides.
func BenchmarkWire(b *testing.B) {
	for _, e := range engines {
		for _, c := range []struct {
			name     string
			every    int
			noBursts bool
		}{{"small", 0, false}, {"small, one by one", 0, true}, {"super", 1, false}} {
			b.Run(e.String()+"/"+c.name, func(b *testing.B) {
				left, right := newWire(b)
				left.enter(b)
				o := afpacket.Options{Family: packet.V6, Engine: e, NoBursts: c.noBursts}
				tx, rx := left.openWith(b, afpacket.OpenSender, o), right.open(b, o)
				out, fs := mixed(64, c.every, left, right), make([]packet.Frame, 64)
				bytes := 0
				for i := range out {
					bytes += out[i].Len()
				}
				b.SetBytes(int64(bytes))
				for b.Loop() {
					round(b, tx, rx, out, fs)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(out)), "ns/packet")
			})
		}
	}
}

// BenchmarkMixedSizes sends 64 packets of 72, 552 and 1440 bytes after the IPv6 header, 7:4:1 and in random order, at
// once and in a burst for each size. The other benchmarks with one size each are the controls.
func BenchmarkMixedSizes(b *testing.B) {
	left, right := newWire(b)
	left.enter(b)
	tx := left.openWith(b, afpacket.OpenSender, afpacket.Options{})
	batch := func(sizes ...int) (out []packet.Out) {
		for i := range 64 {
			out = append(out, left.to(right, unix.ETH_P_IPV6, small(i, sizes[i%len(sizes)]), packet.Offload{}))
		}
		return out
	}
	mix := batch(72, 72, 72, 72, 72, 72, 72, 552, 552, 552, 552, 1440)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(mix), func(i, j int) { mix[i], mix[j] = mix[j], mix[i] })
	split := make([][]packet.Out, 3)
	for _, o := range mix {
		split[o.Len()/500] = append(split[o.Len()/500], o)
	}
	for _, c := range []struct {
		name   string
		bursts [][]packet.Out
	}{
		{"72 bytes", [][]packet.Out{batch(72)}},
		{"552 bytes", [][]packet.Out{batch(552)}},
		{"1440 bytes", [][]packet.Out{batch(1440)}},
		{"mixed", [][]packet.Out{mix}},
		{"split", split},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				for _, out := range c.bursts {
					send(b, tx, out...)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*64), "ns/packet")
		})
	}
}
