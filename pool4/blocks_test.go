package pool4

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
)

// TestBlockModel compares port blocks with plain maps: the owner of a block has all used ports in it.
func TestBlockModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &blockModel{
			model: model{
				pool:    New([16]byte{9}),
				in:      make(map[transport]bool),
				used:    make(map[transport]bool),
				held:    make(map[transport]*time.Duration),
				first:   1000,
				longest: 60,
			},
			owner:  make(map[transport]packet.Addr6),
			logged: make(map[blockOf]packet.Addr6),
		}
		m.configure(t)
		t.Repeat(map[string]func(*rapid.T){
			"add":      m.add,
			"remove":   m.remove,
			"allocate": m.allocate,
			"release":  several(m.release),
			"retire":   several(m.retire),
			"expire":   m.expire,
			"hold":     m.configure,
			"reserve":  m.reserve,
			"":         m.compareBlocks,
		})
	})
}

// several repeats an action up to ten times.
func several(f func(*rapid.T)) func(*rapid.T) {
	return func(t *rapid.T) {
		for range rapid.IntRange(1, 10).Draw(t, "times") {
			f(t)
		}
	}
}

// blockModel draws from entries around the border of the classes, which is a border of blocks, too.
type blockModel struct {
	model
	owner  map[transport]packet.Addr6 // of ports that Allocate chose, used and held ones
	logged map[blockOf]packet.Addr6
}

// blockOf identifies a block by the transport address of its first port.
type blockOf transport

const modelBlock = 16

func in(x transport) blockOf {
	x.at.Port -= x.at.Port % modelBlock
	return blockOf(x)
}

// owners returns the owner of each block that has one.
func (m *blockModel) owners(t *rapid.T) map[blockOf]packet.Addr6 {
	all := make(map[blockOf]packet.Addr6)
	for x, owner := range m.owner {
		if other, ok := all[in(x)]; ok && other != owner {
			t.Fatalf("%v has ports of %v and of %v", in(x), other, owner)
		}
		all[in(x)] = owner
	}
	return all
}

func (m *blockModel) configure(t *rapid.T) {
	m.hold = time.Duration(rapid.SampledFrom([]int{0, 50}).Draw(t, "hold-down")) * time.Second
	m.most = rapid.SampledFrom([]int{0, 3}).Draw(t, "held at most")
	m.pool.Configure(Config{HoldDown: m.hold, MaxHeld: m.most, BlockSize: modelBlock, Fields: AllFields, LogBlock: m.log})
}

func (m *blockModel) log(b Block, ended bool) {
	x := blockOf{b.Proto, packet.Endpoint4{Addr: b.Addr.As4(), Port: b.Lo}}
	if owner, there := m.logged[x]; there != ended || ended && owner != b.Client || b.Hi-b.Lo != modelBlock-1 {
		panic(fmt.Sprintf("logged %+v, ended %v, after %v", b, ended, owner))
	}
	if ended {
		delete(m.logged, x)
	} else {
		m.logged[x] = b.Client
	}
}

// allocate allocates several ports for one owner, which then has several blocks.
func (m *blockModel) allocate(t *rapid.T) {
	proto := packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto"))
	owner := packet.Addr6{15: byte(rapid.IntRange(0, 2).Draw(t, "owner"))}
	for i := range rapid.Uint32Range(1, 50).Draw(t, "ports") {
		q := request(proto, i, rapid.Uint16Range(1000, 1050).Draw(t, "source port"))
		q.Owner = owner
		if q.Wanted = m.wanted(t); rapid.Bool().Draw(t, "paired") {
			q.Paired = m.entry(t).Addr.As4()
		}
		owners := m.owners(t)
		e, r := m.pool.Allocate(q)
		m.check(t, &q, owners, e, r)
		if r == drop.None {
			m.used[transport{q.Proto, e}], m.owner[transport{q.Proto, e}] = true, q.Owner
		}
	}
}

// check checks that a port was free and in a block that its owner may use, and that the owner got a new block only if
// none of its own had a free port.
func (m *blockModel) check(t *rapid.T, q *Request, owners map[blockOf]packet.Addr6, e packet.Endpoint4, r drop.Reason) {
	if r != drop.None {
		m.checkRefusal(t, q, owners)
		return
	}
	x := transport{q.Proto, e}
	owner, owned := owners[in(x)]
	if !m.free(x) || owned && owner != q.Owner {
		t.Fatalf("%v for %v is not free, or in the block of %v", x, q.Owner, owner)
	}
	if owned || slices.Contains(q.Wanted, e) {
		return
	}
	for y := range m.in {
		if owner, owned := owners[in(y)]; owned && owner == q.Owner && y.proto == q.Proto && y.at.Addr == e.Addr && m.free(y) &&
			(y.at.Port < 1024) == (e.Port < 1024) {
			t.Fatalf("%v is in a new block, though %v was free in one of the owner's", x, y)
		}
	}
}

// checkRefusal checks that no port was free in a block without an owner, or on the client's address in a block of the owner.
func (m *blockModel) checkRefusal(t *rapid.T, q *Request, owners map[blockOf]packet.Addr6) {
	paired := m.pool.Holds(q.Proto, q.Paired)
	for x := range m.in {
		owner, owned := owners[in(x)]
		if x.proto == q.Proto && m.free(x) && (!paired && !owned || paired && x.at.Addr == q.Paired && (!owned || owner == q.Owner)) {
			t.Fatalf("%v was refused a port, though %v was free", q.Owner, x)
		}
	}
}

// forget removes the owners of ports that are free again.
func (m *blockModel) forget() {
	for x := range m.owner {
		if _, held := m.held[x]; !held && !m.used[x] {
			delete(m.owner, x)
		}
	}
}

func (m *blockModel) compareBlocks(t *rapid.T) {
	m.forget()
	m.checkLists(t)
	owners := m.owners(t)
	if len(owners) != len(m.logged) {
		t.Fatalf("logged %v, want %v", m.logged, owners)
	}
	for b, owner := range owners {
		if m.logged[b] != owner {
			t.Fatalf("logged %v, want %v", m.logged, owners)
		}
	}
}

// checkLists checks that the list of each owner is a ring of its blocks with free ports.
func (m *blockModel) checkLists(t *rapid.T) {
	for _, rows := range m.pool.rows {
		for _, r := range rows {
			if r.portBlocks == nil {
				continue
			}
			listed := 0
			for h, first := range r.portBlocks.openBlocks {
				for i, more := first, true; more; i, more = r.portBlocks.blocks[i].next, r.portBlocks.blocks[i].next != first {
					b := &r.portBlocks.blocks[i]
					if listed++; listed > len(r.portBlocks.blocks) || b.owner != h.client || r.portBlocks.class(i) != h.class || r.portBlocks.blocks[b.next].prev != i {
						t.Fatalf("block %d, %+v, is in the list of %+v", i, b, h)
					}
				}
			}
			for i := range r.portBlocks.blocks {
				b := &r.portBlocks.blocks[i]
				if free := r.ports.countIn(r.portBlocks.span(uint16(i)), either) > 0; b.listed != (b.owned && free) {
					t.Fatalf("block %d, %+v, with free ports: %v", i, b, free)
				} else if b.listed {
					listed--
				}
			}
			if listed != 0 {
				t.Fatalf("%d blocks too many are in lists", listed)
			}
		}
	}
}

// TestBitsetCountsWithinBounds compares count and nth with a look at each number, for bounds within words and at their ends.
func TestBitsetCountsWithinBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := newBitset(256)
		for w := range s {
			s[w] = rapid.Uint64().Draw(t, "word")
		}
		hi := rapid.IntRange(0, 256).Draw(t, "hi")
		lo := rapid.IntRange(0, hi).Draw(t, "lo")
		n := 0
		for i := lo; i < hi; i++ {
			if !s.has(i) {
				continue
			}
			if got := s.nth(lo, hi, n); got != i {
				t.Fatalf("number %d from %d to %d is %d, want %d", n, lo, hi, got, i)
			}
			n++
		}
		if got := s.count(lo, hi); got != n {
			t.Fatalf("%d numbers from %d to %d, want %d", got, lo, hi, n)
		}
	})
}

// TestBlocksKeepParity allocates all ports of a client's only block: UDP gets those of its parity first, TCP any.
func TestBlocksKeepParity(t *testing.T) {
	t.Parallel()
	for _, proto := range []packet.Proto{packet.UDP, packet.TCP} {
		p := newPool(t, "192.0.2.1", "2048-2079")
		p.Configure(Config{Fields: AllFields, BlockSize: 32})
		if free, all := p.Free(proto); free != 32 || all != 32 {
			t.Fatalf("%v: %d of %d ports are free, want 32", proto, free, all)
		}
		odd := 0
		for n := range 32 {
			e, r := p.Allocate(request(proto, 1, 5001))
			if r != drop.None {
				t.Fatalf("%v: port %d: %v", proto, n, r)
			}
			if n < 16 && e.Port%2 == 1 {
				odd++
			}
			if free, _ := p.Free(proto); free != 0 {
				t.Fatalf("%v: %d ports are free for a new client with all blocks owned", proto, free)
			}
		}
		if proto == packet.UDP && odd != 16 || proto == packet.TCP && odd == 16 {
			t.Errorf("%v: %d of the first 16 ports are odd", proto, odd)
		}
	}
}
