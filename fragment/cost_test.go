package fragment_test

import (
	"fmt"
	"testing"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// A full Reassembler refuses without allocating, so that a flood of fragments costs the collector nothing; and once it
// has its memory it works without, too.
func TestAddDoesNotAllocate(t *testing.T) {
	for name, base := range families {
		r := fragment.New(fragment.Limits{PerSource: 4})
		base.data = payload(3000, 0)
		var views []packet.View
		for _, f := range base.cut(1000) {
			v, _ := parse(f.build())
			views = append(views, v)
		}
		put := func() {
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
		check("refused for the limit")
		add(t, r, frag{v6: base.v6, next: 17, id: 1, data: payload(1008, 0), more: true}.build(), 0)
		check("again, with one of them abandoned")
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
				for i := range views {
					if w, r := r.Add6(&views[i], 0); r != drop.None || (w.Data != nil) != (i == n-1) {
						b.Fatal(r)
					}
				}
			}
		})
	}
}

func BenchmarkAddRefused(b *testing.B) {
	r := fragment.New(fragment.Limits{PerSource: 1})
	f := frag{v6: true, next: 17, data: payload(1448, 0), more: true}
	add(b, r, f.build(), 0)
	f.id++
	v, _ := parse(f.build())
	b.ReportAllocs()
	for b.Loop() {
		if _, bad := r.Add6(&v, 0); bad != drop.FragmentSource {
			b.Fatal(bad)
		}
	}
}
