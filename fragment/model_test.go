package fragment_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// block is the unit in which Limits count memory.
const block = 2048

// modelLimits are so small that the model reaches them all the time.
var modelLimits = fragment.Limits{Time: 2 * time.Second, Bytes: 14 * block, PerSourceBytes: 8 * block, PerSource: 6}

// name identifies a datagram.
type name struct {
	source, next uint8
	id           uint32
}

// modelDatagram is a datagram as RFC 8200 section 4.5 defines it: a set of bytes.
type modelDatagram struct {
	name      name
	arrived   time.Duration
	frags     []frag
	abandoned bool
}

// weight returns the fragments and blocks for which the datagram counts.
func (d *modelDatagram) weight() (fragments, blocks int) {
	if d.abandoned {
		return 1, 1
	}
	for _, f := range d.frags {
		blocks += modelBlocks(f)
	}
	return len(d.frags), blocks
}

func modelBlocks(f frag) int {
	n := len(f.data)
	if f.offset == 0 {
		n += packet.IPv4Len
		if f.v6 {
			n += packet.IPv4Len
		}
	}
	return (n + block - 1) / block
}

// model is the simplest implementation of reassembly.
type model struct {
	datagrams []*modelDatagram // by arrival
	lost      fragment.Lost
}

// find returns the datagram of that name, or nil.
func (m *model) find(k name) *modelDatagram {
	for _, d := range m.datagrams {
		if d.name == k {
			return d
		}
	}
	return nil
}

// forget removes d from the model and returns the number of its stored fragments.
func (m *model) forget(d *modelDatagram) int {
	m.datagrams = slices.DeleteFunc(m.datagrams, func(o *modelDatagram) bool { return o == d })
	return len(d.frags)
}

func (m *model) expire(now time.Duration) {
	for _, d := range slices.Clone(m.datagrams) {
		if now-d.arrived > modelLimits.Time {
			m.lost.Late += m.forget(d)
		}
	}
}

// used returns the fragments and blocks of one source, and the blocks of all.
func (m *model) used(source uint8) (fragments, blocks, all int) {
	for _, d := range m.datagrams {
		count, n := d.weight()
		all += n
		if d.name.source == source {
			fragments, blocks = fragments+count, blocks+n
		}
	}
	return fragments, blocks, all
}

// room discards the oldest datagrams until one more fragment fits, and refuses the fragment if its own datagram is
// among them.
func (m *model) room(f frag, own *modelDatagram) drop.Reason {
	n := modelBlocks(f)
	if n*block > modelLimits.PerSourceBytes {
		return drop.FragmentSource
	}
	for {
		fragments, blocks, all := m.used(f.source)
		reason, lost, of := drop.FragmentSource, &m.lost.Source, func(d *modelDatagram) bool { return d.name.source == f.source }
		switch {
		case fragments >= modelLimits.PerSource, (blocks+n)*block > modelLimits.PerSourceBytes:
		case (all+n)*block > modelLimits.Bytes:
			reason, lost, of = drop.FragmentMemory, &m.lost.Memory, func(*modelDatagram) bool { return true }
		default:
			return drop.None
		}
		oldest := m.datagrams[slices.IndexFunc(m.datagrams, of)]
		if *lost += m.forget(oldest); oldest == own {
			return reason
		}
	}
}

// add returns the payload of the datagram that f completes, or the reason for which f is refused.
func (m *model) add(f frag, now time.Duration) ([]byte, drop.Reason) {
	m.expire(now)
	k := name{f.source, f.next, f.id}
	d := m.find(k)
	if d != nil && !d.abandoned {
		for _, g := range d.frags {
			if g.offset == f.offset && g.more == f.more && bytes.Equal(g.data, f.data) {
				return nil, drop.FragmentTwice
			}
		}
		if !consistent(append(slices.Clone(d.frags), f)) {
			d.abandoned = true
		}
	}
	if d != nil && d.abandoned {
		return nil, drop.FragmentOverlap
	}
	if bad := m.room(f, d); bad != drop.None {
		return nil, bad
	}
	if d == nil {
		d = &modelDatagram{name: k, arrived: now}
		m.datagrams = append(m.datagrams, d)
	}
	d.frags = append(d.frags, f)
	whole := join(d.frags)
	if whole != nil {
		m.forget(d)
	}
	return whole, drop.None
}

// consistent reports whether no byte occurs twice, at most one fragment is the last, and none comes after that.
func consistent(fs []frag) bool {
	seen := map[int]bool{}
	total, last := -1, 0
	for _, f := range fs {
		for i := range f.data {
			if seen[f.offset+i] {
				return false
			}
			seen[f.offset+i] = true
		}
		if !f.more {
			total, last = f.offset+len(f.data), last+1
		}
	}
	for _, f := range fs {
		end := f.offset + len(f.data)
		if total >= 0 && (end > total || f.more && end == total) {
			return false
		}
	}
	return last <= 1
}

// join returns the payload if fs, which are consistent, cover it.
func join(fs []frag) []byte {
	fs = slices.Clone(fs)
	slices.SortFunc(fs, func(a, b frag) int { return a.offset - b.offset })
	var whole []byte
	for _, f := range fs {
		if f.offset != len(whole) {
			return nil
		}
		whole = append(whole, f.data...)
	}
	if fs[len(fs)-1].more {
		return nil
	}
	return whole
}

// pair is a Reassembler and a model that get the same fragments.
type pair struct {
	r   *fragment.Reassembler
	m   model
	now time.Duration
}

func newPair() *pair {
	return &pair{r: fragment.New(modelLimits)}
}

// add compares the results of both for f, which is well-formed by itself.
func (p *pair) add(t rapid.TB, f frag) {
	w, r := add(t, p.r, f.build(), p.now)
	whole, expect := p.m.add(f, p.now)
	if r != expect || (w.Data != nil) != (whole != nil) {
		t.Fatalf("fragment %d+%d: %v, whole %v; the model says %v, %v", f.offset, len(f.data), r, w.Data != nil, expect, whole != nil)
	}
	if whole != nil {
		v, r := parse(w.Data)
		if r != drop.None || !bytes.Equal(v.Transport(), whole) {
			t.Fatalf("%v: the datagram differs from the model's", r)
		}
	}
	p.check(t)
}

// wait lets time pass.
func (p *pair) wait(t rapid.TB, d time.Duration) {
	p.now += d
	p.m.expire(p.now)
	if n := p.r.Expire(p.now); n != p.m.lost {
		t.Fatalf("%+v were discarded, the model says %+v", n, p.m.lost)
	}
	p.m.lost = fragment.Lost{}
	p.check(t)
}

func (p *pair) check(t rapid.TB) {
	_, _, blocks := p.m.used(0)
	if p.r.Len() != len(p.m.datagrams) || p.r.Bytes() != blocks*block {
		t.Fatalf("%d datagrams of %d bytes, the model has %d of %d", p.r.Len(), p.r.Bytes(), len(p.m.datagrams), blocks*block)
	}
	waiting := 0
	for _, d := range p.m.datagrams {
		waiting += len(d.frags)
	}
	if p.r.Waiting() != waiting {
		t.Fatalf("%d fragments wait, in the model %d", p.r.Waiting(), waiting)
	}
	if p.r.Bytes() > modelLimits.Bytes || p.r.Len() > modelLimits.Bytes/block {
		t.Fatalf("%d datagrams of %d bytes are more than the limits allow", p.r.Len(), p.r.Bytes())
	}
}

func TestReassemblerLikeModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v6 := rapid.Bool().Draw(t, "v6")
		p := newPair()
		var cuts [16][]frag // of incomplete datagrams
		draw := func(t *rapid.T) (frag, int) {
			n := rapid.IntRange(0, len(cuts)-1).Draw(t, "datagram")
			return frag{v6: v6, next: packet.NumUDP, source: uint8(n % 3), id: uint32(n)}, n
		}
		t.Repeat(map[string]func(*rapid.T){
			"fragment of a datagram": func(t *rapid.T) {
				f, n := draw(t)
				if len(cuts[n]) == 0 {
					f.data = payload(rapid.IntRange(16, 6000).Draw(t, "size"), n)
					cuts[n] = f.cut(max(len(f.data)/rapid.IntRange(1, 5).Draw(t, "pieces")&^7, 8))
				}
				cuts[n] = cuts[n][:min(len(cuts[n]), modelLimits.PerSource)]
				i := rapid.IntRange(0, len(cuts[n])-1).Draw(t, "fragment")
				if f = cuts[n][i]; !f.more && f.offset == 0 {
					return // it is complete
				}
				p.add(t, f)
				if rapid.IntRange(0, 9).Draw(t, "again") > 0 {
					cuts[n] = slices.Delete(cuts[n], i, i+1)
				}
			},
			"fragment of nothing": func(t *rapid.T) {
				f, _ := draw(t)
				f.offset = rapid.IntRange(0, 500).Draw(t, "offset") * 8
				f.data = payload(rapid.IntRange(8, 2500).Draw(t, "size"), rapid.IntRange(0, 1).Draw(t, "variant"))
				if f.more = rapid.Bool().Draw(t, "more"); f.more {
					f.data = f.data[:len(f.data)&^7]
				} else if f.offset == 0 {
					return
				}
				p.add(t, f)
			},
			"time": func(t *rapid.T) {
				p.wait(t, time.Duration(rapid.IntRange(1, 1500).Draw(t, "ms"))*time.Millisecond)
			},
		})
	})
}
