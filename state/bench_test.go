//go:build linux

package state

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/table"
)

// tables returns empty tables with room for n sessions, in a state directory if d is not nil.
func tables(b *testing.B, n int, d *Dir) (*table.Epochs, *session.Table) {
	b.Helper()
	e := table.NewEpochs(1)
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.0/25", "1024-65535")
	if err == nil {
		_, _, err = pool.Add(entries)
	}
	if err != nil {
		b.Fatal(err)
	}
	var f table.Files
	if d != nil {
		f = d
	}
	return e, session.New(bib.New(pool, e, n, [16]byte{2}, f), e, n, nil, conf, f)
}

// fill makes n UDP sessions, a binding each.
func fill(b *testing.B, e *table.Epochs, s *session.Table, n int) {
	for i := range n {
		f := session.Flow{Proto: packet.TCP, Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 443}}
		f.Client.Addr = packet.Addr6{0x20, 1, 0xd, 0xb8}
		binary.BigEndian.PutUint32(f.Client.Addr[12:], uint32(i/8))
		f.Client.Port = uint16(1024 + i%8)
		e.Enter(0)
		r := s.From6(&f, &session.Packet{Event: packet.SYN})
		e.Leave(0)
		if r != 0 {
			b.Fatal(r)
		}
		if i%4096 == 0 {
			s.Maintain()
		}
	}
}

// processorTime returns the processor time of this process: other programs on the machine delay it, but do not add to it.
func processorTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRestore restores TCP connections with a binding each.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{10_000, 100_000, 1_000_000, 4_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := memory(b)
			d, err := Open(path)
			if err != nil {
				b.Fatal(err)
			}
			if err := d.Begin(Header{Start: Monotonic(), Prefixes: prefixes}); err != nil {
				b.Fatal(err)
			}
			e, s := tables(b, n, d)
			fill(b, e, s, n)
			if err := d.Commit(); err != nil {
				b.Fatal(err)
			}
			saved, err := d.Saved(1 << 40)
			if err != nil {
				b.Fatal(err)
			}
			used := time.Duration(0)
			for b.Loop() {
				b.StopTimer()
				_, next := tables(b, n, nil)
				b.StartTimer()
				used -= processorTime()
				r, err := restore(saved.Restore(b.Context(), next, 0, numberOf))
				if err != nil || r.Sessions != n {
					b.Fatal(r, err)
				}
				used += processorTime()
			}
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N)/float64(n), "cpu-ns/session")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/session")
			d.Close()
		})
	}
}
