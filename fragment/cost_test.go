package fragment_test

import (
	"fmt"
	"testing"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// A Reassembler that has its memory allocates nothing, neither for datagrams that become complete nor for a flood of
// fragments that evict others.
func TestAddDoesNotAllocate(t *testing.T) {
	for name, base := range families {
		r := fragment.New(fragment.Limits{PerSource: 4, Bytes: 64 << 10})
		base.data = payload(3000, 0)
		var views []packet.View
		for _, f := range base.cut(1000) {
			v, _ := parse(f.build())
			views = append(views, v)
		}
		put := func() {
			r.Release()
			for i := range views {
				if base.v6 {
					_, _ = r.Add6(&views[i], 0)
				} else {
					_, _ = r.Add4(&views[i], 0)
				}
			}
		}
		check := func(what string) {
			if n := testing.AllocsPerRun(100, put); n != 0 {
				t.Errorf("%s: %s: %v allocations", name, what, n)
			}
		}
		check("whole datagrams")
		for id := range uint32(4) {
			add(t, r, frag{v6: base.v6, next: 17, id: id + 1, data: payload(1000, 0), more: true}.build(), 0)
		}
		check("with others of the source")
		add(t, r, frag{v6: base.v6, next: 17, id: 4, data: payload(1008, 0), more: true}.build(), 0)
		check("with an abandoned one")
		flood := views[:0]
		for i := range 2000 {
			v, _ := parse(frag{v6: base.v6, next: 17, id: uint32(i), source: uint8(i), data: payload(1000, 0), more: true}.build())
			flood = append(flood, v)
		}
		views = flood
		put()
		check("a flood")
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{2, 6, 44} {
		b.Run(fmt.Sprintf("%d fragments", n), func(b *testing.B) {
			r := fragment.New(fragment.Limits{})
			var views []packet.View
			for _, f := range (frag{v6: true, next: 17, data: payload(1448*n, 0)}).cut(1448) {
				v, _ := parse(f.build())
				views = append(views, v)
			}
			b.SetBytes(int64(1448 * n))
			b.ReportAllocs()
			for b.Loop() {
				r.Release()
				for i := range views {
					if w, r := r.Add6(&views[i], 0); r != drop.None || (w.Data != nil) != (i == n-1) {
						b.Fatal(r)
					}
				}
			}
		})
	}
}

// BenchmarkAddFlood adds single fragments of incomplete datagrams, of one source and of many.
func BenchmarkAddFlood(b *testing.B) {
	for name, sources := range map[string]int{"one source": 1, "many sources": 256} {
		b.Run(name, func(b *testing.B) {
			r := fragment.New(fragment.Limits{})
			var views []packet.View
			for i := range 1 << 15 {
				v, _ := parse(frag{v6: true, next: 17, source: uint8(i % sources), id: uint32(i), data: payload(1448, 0), more: true}.build())
				views = append(views, v)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				_, _ = r.Add6(&views[i%len(views)], 0)
			}
		})
	}
}

// BenchmarkAddBehindMany adds small fragments of one datagram in the order in which each search passes all earlier ones.
func BenchmarkAddBehindMany(b *testing.B) {
	r := fragment.New(fragment.Limits{})
	var views []packet.View
	for i := range 510 {
		v, _ := parse(frag{v6: true, next: 17, offset: 16 * (i + 1), data: payload(8, 0), more: true}.build())
		views = append(views, v)
	}
	last, _ := parse(frag{v6: true, next: 17, offset: 32000, data: payload(8, 0), more: true}.build())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(views) == 0 {
			r = fragment.New(fragment.Limits{})
			_, _ = r.Add6(&last, 0)
		}
		_, _ = r.Add6(&views[i%len(views)], 0)
	}
}
