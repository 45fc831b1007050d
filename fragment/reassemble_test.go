package fragment_test

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// families are the two for which family runs a test.
var families = map[string]frag{
	"ipv6": {v6: true, next: packet.NumUDP, id: 0xdeadbeef},
	"ipv4": {next: packet.NumUDP, id: 0xbeef},
}

// family runs a test for IPv6 and IPv4.
func family(t *testing.T, f func(t *testing.T, base frag)) {
	for name, base := range families {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, base)
		})
	}
}

// want checks that w is the reassembled datagram f, whose largest piece had the given size.
func want(t testing.TB, w fragment.Whole, f frag, largest int) {
	t.Helper()
	if w.Data == nil {
		t.Fatal("the datagram is not complete")
	}
	v, r := parse(w.Data)
	if r != drop.None || len(v.Data) != len(w.Data) || v.Fragmented || v.Number != f.next {
		t.Fatalf("bad datagram (%v) with next header %d: %x", r, v.Number, w.Data[:60])
	}
	if !bytes.Equal(v.Transport(), f.data) {
		t.Fatal("the datagram's payload differs from what was sent")
	}
	if w.ID != f.id || w.Largest != largest || w.DF != f.df {
		t.Fatalf("ID %#x, largest %d, DF %v; want %#x, %d, %v", w.ID, w.Largest, w.DF, f.id, largest, f.df)
	}
	if f.v6 {
		return
	}
	if r := v.Transport4(); r == drop.Fragment || v.IP4().DF() != f.df {
		t.Fatalf("the header is still a fragment's, or its DF is wrong: %x", w.Data[:packet.IPv4Len])
	}
}

func TestAddCompletesInAnyOrder(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		base.data = payload(3001, 0)
		for seed := range uint64(50) {
			r := fragment.New(fragment.Limits{})
			fs := base.cut(1000)
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
			for i, f := range fs {
				w, bad := add(t, r, f.build(), 0)
				switch {
				case bad != drop.None:
					t.Fatal(bad)
				case i < len(fs)-1 && w.Data != nil:
					t.Fatal("complete too early")
				case i == len(fs)-1:
					want(t, w, base, 1000)
				}
			}
			if r.Len() != 0 || r.Bytes() != 0 {
				t.Fatalf("%d datagrams, %d bytes are left", r.Len(), r.Bytes())
			}
		}
	})
}

// The headers of the reassembled datagram are those of the first fragment, even if those of the others differ.
func TestAddTakesHeadersOfFirstFragment(t *testing.T) {
	t.Parallel()
	for _, base := range []frag{
		{v6: true, next: packet.NumUDP, ext: append(options6(packet.NumDestOpts, 8), options6(packet.NumFragment, 248)...)},
		{next: packet.NumUDP, ext: []byte{1, 1, 1, 1, 7, 4, 4, 0}},
	} {
		base.data = payload(5000, 0)
		fs := base.cut(2400)
		fs[0].ecn, fs[1].ecn, fs[2].ecn = 2, 3, 2
		fs[1].ext = nil
		fs[1].df, base.df = !base.v6, !base.v6
		if base.v6 {
			fs[1].next = packet.NumTCP // RFC 8200 section 4.5: only the first one's counts
		}
		r := fragment.New(fragment.Limits{})
		var w fragment.Whole
		for _, i := range []int{2, 1, 0} {
			w, _ = add(t, r, fs[i].build(), 0)
		}
		want(t, w, base, 2400)
		v, _ := parse(w.Data)
		if v.L4 != len(fs[0].build())-2400-map[bool]int{true: packet.FragLen}[base.v6] {
			t.Errorf("the headers are %d bytes long", v.L4)
		}
		ecn := w.Data[1] & 3
		if base.v6 {
			ecn = w.Data[1] >> 4 & 3
		}
		if ecn != 3 {
			t.Errorf("ECN is %d: the CE mark is lost", ecn)
		}
	}
}

// refusals are fragments that are invalid by themselves.
var refusals = map[string]struct {
	f       frag
	reason  drop.Reason
	pointer uint32
}{
	"length is no multiple of 8":            {frag{v6: true, next: 17, data: payload(1001, 0), more: true}, drop.FragmentLength, 4},
	"length is no multiple of 8, IPv4":      {frag{next: 17, data: payload(1001, 0), more: true}, drop.FragmentLength, 4},
	"no data":                               {frag{v6: true, next: 17, offset: 800}, drop.FragmentLength, 4},
	"ends beyond 65535":                     {frag{v6: true, next: 17, offset: 65528, data: payload(8, 0)}, drop.FragmentSpan, 42},
	"ends beyond 65535 with an option":      {frag{v6: true, next: 17, ext: options6(44, 16), offset: 65512, data: payload(8, 0)}, drop.FragmentSpan, 58},
	"ends at 65535":                         {frag{v6: true, next: 17, offset: 65528, data: payload(7, 0)}, drop.None, 0},
	"ping of death":                         {frag{next: 1, offset: 65512, data: payload(8, 0)}, drop.FragmentSpan, 0},
	"ends at 65535, IPv4":                   {frag{next: 17, offset: 65512, data: payload(3, 0)}, drop.None, 0},
	"tiny first TCP fragment":               {frag{v6: true, next: 6, data: payload(16, 0), more: true}, drop.FragmentHeader, 0},
	"tiny first TCP fragment, IPv4":         {frag{next: 6, data: payload(8, 0), more: true}, drop.FragmentHeader, 0},
	"small first TCP fragment":              {frag{next: 6, data: payload(24, 0), more: true}, drop.None, 0},
	"first UDP fragment of 8 bytes":         {frag{v6: true, next: 17, data: payload(8, 0), more: true}, drop.None, 0},
	"first ICMP fragment of 8 bytes":        {frag{next: 1, data: payload(8, 0), more: true}, drop.None, 0},
	"TCP fragment at 8":                     {frag{next: 6, offset: 8, data: payload(24, 0), more: true}, drop.FragmentTiny, 0},
	"TCP fragment at 8, IPv6":               {frag{v6: true, next: 6, offset: 8, data: payload(24, 0), more: true}, drop.FragmentTiny, 0},
	"UDP fragment at 8":                     {frag{next: 17, offset: 8, data: payload(24, 0), more: true}, drop.None, 0},
	"unknown transport":                     {frag{next: 50, data: payload(24, 0), more: true}, drop.UnknownTransport, 0},
	"ICMPv6 in IPv4":                        {frag{next: 58, data: payload(24, 0), more: true}, drop.UnknownTransport, 0},
	"ICMP in IPv6":                          {frag{v6: true, next: 1, data: payload(24, 0), more: true}, drop.UnknownTransport, 0},
	"unknown transport in a later IPv6 one": {frag{v6: true, next: 50, offset: 24, data: payload(24, 0), more: true}, drop.None, 0},
}

func TestAddRefusesMalformed(t *testing.T) {
	t.Parallel()
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fragment.New(fragment.Limits{})
			b := c.f.build()
			w, bad := add(t, r, b, 0)
			if bad != c.reason || w.Data != nil {
				t.Fatalf("got %v, want %v", bad, c.reason)
			}
			if kept := r.Len() == 1; kept != (bad == drop.None) {
				t.Errorf("stored: %v", kept)
			}
			v, _ := parse(b)
			if p := fragment.Pointer(&v, bad); c.f.v6 && p != c.pointer {
				t.Errorf("pointer %d, want %d", p, c.pointer)
			}
		})
	}
}

// The first fragment can have more options than a last fragment that ends at the limit.
func TestAddRefusesSpanOfWhole(t *testing.T) {
	t.Parallel()
	for _, f := range []frag{
		{v6: true, next: 17, data: payload(65535, 0), ext: nil},
		{next: 17, data: payload(65515, 0)},
	} {
		r := fragment.New(fragment.Limits{})
		fs := f.cut(65512 - 8)
		fs[0].ext = []byte{1, 1, 1, 1}
		if f.v6 {
			fs = f.cut(65408) // the first one ends below the limit by itself, options included
			fs[0].ext = options6(44, 8)
		}
		if _, bad := add(t, r, fs[0].build(), 0); bad != drop.None {
			t.Fatal(bad)
		}
		if _, bad := add(t, r, fs[1].build(), 0); bad != drop.FragmentSpan {
			t.Fatalf("got %v, want %v", bad, drop.FragmentSpan)
		}
		if n := r.Expire(time.Minute).Late; n != 1 || r.Len() != 0 || r.Bytes() != 0 {
			t.Fatalf("%d fragments expired, %d datagrams and %d bytes are left", n, r.Len(), r.Bytes())
		}
	}
}

// contradictions are fragments of one datagram that contradict each other.
var contradictions = map[string][]frag{
	"overlap behind":             {{offset: 0, data: payload(1000, 0), more: true}, {offset: 992, data: payload(800, 0)}},
	"overlap in front":           {{offset: 992, data: payload(800, 0)}, {offset: 0, data: payload(1000, 0), more: true}},
	"contained":                  {{offset: 0, data: payload(1000, 0), more: true}, {offset: 400, data: payload(80, 0), more: true}},
	"contains":                   {{offset: 400, data: payload(80, 0), more: true}, {offset: 0, data: payload(1000, 0), more: true}},
	"same place, other bytes":    {{offset: 800, data: payload(1000, 0), more: true}, {offset: 800, data: payload(1000, 1), more: true}},
	"same place, other size":     {{offset: 800, data: payload(1000, 0), more: true}, {offset: 800, data: payload(1008, 0), more: true}},
	"same place, last and not":   {{offset: 800, data: payload(1000, 0), more: true}, {offset: 800, data: payload(1000, 0)}},
	"same place, not last":       {{offset: 800, data: payload(1000, 0)}, {offset: 800, data: payload(1000, 0), more: true}},
	"behind the last":            {{offset: 800, data: payload(1000, 0)}, {offset: 2000, data: payload(80, 0), more: true}},
	"last in front of another":   {{offset: 2000, data: payload(80, 0), more: true}, {offset: 800, data: payload(1000, 0)}},
	"two last":                   {{offset: 2000, data: payload(80, 0)}, {offset: 800, data: payload(1000, 0)}},
	"more where the last ends":   {{offset: 808, data: payload(1000, 0)}, {offset: 800, data: payload(1008, 0), more: true}},
	"first in a jumbo, one byte": {{offset: 0, data: payload(8000, 0), more: true}, {offset: 0, data: append(payload(7999, 0), 0xff), more: true}},
}

func TestAddAbandonsContradictions(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		for name, fs := range contradictions {
			r := fragment.New(fragment.Limits{})
			for i, f := range fs {
				f.v6, f.id, f.next = base.v6, base.id, base.next
				expect := []drop.Reason{drop.None, drop.FragmentOverlap}[i]
				if w, bad := add(t, r, f.build(), 0); bad != expect || w.Data != nil {
					t.Errorf("%s: fragment %d: %v, want %v", name, i, bad, expect)
				}
			}
			if r.Bytes() != 2048 || r.Len() != 1 {
				t.Errorf("%s: an abandoned datagram counts as %d bytes", name, r.Bytes())
			}
			base.data = payload(3000, 0)
			for _, f := range base.cut(1000) {
				if _, bad := add(t, r, f.build(), 2*time.Second); bad != drop.FragmentOverlap {
					t.Errorf("%s: a later fragment: %v", name, bad)
				}
			}
			for i, f := range base.cut(1000) { // RFC 8200 section 4.5 forbids no new datagram of that name
				if w, _ := add(t, r, f.build(), 2*time.Second+1); i == 2 {
					want(t, w, base, 1000)
				}
			}
		}
	})
}

// Complete datagrams stay unchanged until they are released.
func TestWholeDatagramsStay(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{})
		for range 2 {
			var wholes []fragment.Whole
			var sent []frag
			held := 0
			for i := range 20 {
				f := base
				f.id, f.data = base.id+uint32(i), payload(3000+i, i)
				for _, g := range f.cut(1000) {
					if w, _ := add(t, r, g.build(), 0); w.Data != nil {
						wholes, sent, held = append(wholes, w), append(sent, f), held+len(w.Data)
					}
				}
			}
			for i, w := range wholes {
				want(t, w, sent[i], 1000)
			}
			if len(wholes) != 20 || r.Held() != held {
				t.Errorf("%d datagrams are complete, %d bytes are held, want %d", len(wholes), r.Held(), held)
			}
			r.Release()
		}
	})
}

func TestAddIgnoresExactDuplicates(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{PerSource: 3})
		base.data = payload(20001, 0)
		fs := base.cut(8000)
		stored := map[int]bool{}
		for _, i := range []int{2, 2, 0, 0, 2, 1} {
			w, bad := add(t, r, fs[i].build(), 0)
			if bad != drop.None && bad != drop.FragmentTwice || stored[i] != (bad == drop.FragmentTwice) {
				t.Fatal(bad)
			}
			stored[i] = true
			if i == 1 {
				want(t, w, base, 8000)
			}
		}
	})
}

func TestAddKeepsDatagramsApart(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{})
		var all []frag
		for i := range uint8(8) {
			f := base
			f.source, f.id, f.data = i&1, base.id+uint32(i>>1&1), payload(2000, int(i))
			if f.next = packet.NumUDP; i&4 != 0 {
				if f.v6 {
					continue // in IPv6 the protocol is not part of the key
				}
				f.next = packet.NumICMP
			}
			all = append(all, f)
		}
		for _, f := range all {
			add(t, r, f.cut(1000)[1].build(), 0)
		}
		if r.Len() != len(all) {
			t.Fatalf("%d datagrams, want %d", r.Len(), len(all))
		}
		for _, f := range all {
			w, _ := add(t, r, f.cut(1000)[0].build(), 0)
			want(t, w, f, 1000)
		}
	})
}

func TestAddRefusesExpiredDatagrams(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{})
		base.data = payload(2000, 0)
		fs := base.cut(1000)
		add(t, r, fs[0].build(), time.Second)
		if w, _ := add(t, r, fs[1].build(), 3*time.Second); w.Data == nil {
			t.Fatal("refused within 2 s")
		}
		add(t, r, fs[0].build(), 4*time.Second)
		if n := r.Expire(6 * time.Second).Late; n != 0 {
			t.Fatalf("%d fragments expired within 2 s", n)
		}
		if w, _ := add(t, r, fs[1].build(), 6*time.Second+1); w.Data != nil {
			t.Fatal("complete after more than 2 s")
		}
		if n := r.Expire(8*time.Second + 2).Late; n != 2 || r.Len() != 0 || r.Bytes() != 0 {
			t.Fatalf("%d fragments expired, %d datagrams and %d bytes are left", n, r.Len(), r.Bytes())
		}
	})
}

// Each call frees at most 64 datagrams, but expired datagrams that are not freed yet refuse fragments, too.
func TestExpireIsBounded(t *testing.T) {
	t.Parallel()
	r := fragment.New(fragment.Limits{PerSource: 1000, PerSourceBytes: 16 << 20})
	f := frag{next: 17, data: payload(2000, 0)}
	fs := f.cut(1000)
	for id := range uint32(1000) {
		fs[0].id, fs[1].id = id, id
		add(t, r, fs[0].build(), 0)
	}
	if w, _ := add(t, r, fs[1].build(), time.Minute); w.Data != nil {
		t.Fatal("complete after more than 2 s")
	}
	total := 0
	for r.Len() > 1 {
		before := r.Len()
		total += r.Expire(time.Minute).Late
		if freed := before - r.Len(); freed == 0 || freed > 64 {
			t.Fatalf("one call freed %d datagrams", freed)
		}
	}
	if total != 1000 || r.Bytes() != 2048 {
		t.Fatalf("%d fragments expired, %d bytes are left", total, r.Bytes())
	}
}

// lone returns a fragment of a datagram that stays incomplete.
func lone(source uint8, id uint32, n int) frag {
	return frag{v6: true, next: 17, source: source, id: id, data: payload(n, 0), more: true}
}

// At each limit the oldest datagram is discarded: of the source at its own limit, of all sources at theirs.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits fragment.Limits
		fill   []frag
		over   frag
		reason drop.Reason
		lost   fragment.Lost
		left   int // datagrams
	}{
		"fragments of a source": {fragment.Limits{PerSource: 3}, []frag{lone(9, 9, 8), lone(1, 1, 8), lone(1, 2, 8), lone(1, 3, 8)},
			lone(1, 4, 8), drop.None, fragment.Lost{Source: 1}, 4},
		"fragments of a datagram": {fragment.Limits{PerSource: 2}, append(lone(1, 1, 24).cut(8)[:2], lone(9, 9, 8)),
			lone(1, 1, 24).cut(8)[2], drop.FragmentSource, fragment.Lost{Source: 2}, 1},
		"memory of a source": {fragment.Limits{PerSourceBytes: 3 * 2048}, []frag{lone(9, 9, 8), lone(1, 1, 4000), lone(1, 2, 8)},
			lone(1, 3, 2016), drop.None, fragment.Lost{Source: 1}, 3},
		"memory of a source, two are evicted": {fragment.Limits{PerSourceBytes: 3 * 2048}, []frag{lone(1, 1, 8), lone(1, 2, 8), lone(1, 3, 8)},
			lone(1, 4, 4000), drop.None, fragment.Lost{Source: 2}, 2},
		"memory of a source, the last is evicted": {fragment.Limits{PerSourceBytes: 2 * 2048}, []frag{lone(1, 1, 4000)},
			lone(1, 2, 8), drop.None, fragment.Lost{Source: 1}, 1},
		"a fragment larger than a source's memory": {fragment.Limits{PerSourceBytes: 2048}, []frag{lone(1, 1, 8)},
			lone(1, 2, 4000), drop.FragmentSource, fragment.Lost{}, 1},
		"memory": {fragment.Limits{Bytes: 3 * 2048}, []frag{lone(1, 1, 8), lone(2, 2, 8), lone(2, 3, 8)},
			lone(3, 3, 8), drop.None, fragment.Lost{Memory: 1}, 3},
		"memory of a datagram": {fragment.Limits{Bytes: 2 * 2048}, append(lone(1, 1, 24).cut(8)[:1], lone(2, 2, 8)),
			lone(1, 1, 24).cut(8)[1], drop.FragmentMemory, fragment.Lost{Memory: 1}, 1},
		"a fragment larger than the memory": {fragment.Limits{Bytes: 2048}, []frag{lone(1, 1, 8)},
			lone(1, 2, 4000), drop.FragmentMemory, fragment.Lost{}, 1},
		"abandoned datagrams": {fragment.Limits{PerSource: 2},
			[]frag{lone(1, 1, 8), lone(1, 1, 16), lone(1, 2, 8), lone(1, 2, 16)}, lone(1, 3, 8), drop.None, fragment.Lost{Source: 1}, 2},
		"memory of abandoned datagrams": {fragment.Limits{Bytes: 2 * 2048},
			[]frag{lone(1, 1, 8), lone(1, 1, 16), lone(2, 2, 8), lone(2, 2, 16)}, lone(3, 3, 8), drop.None, fragment.Lost{Memory: 1}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := fragment.New(c.limits)
			for _, f := range c.fill {
				add(t, r, f.build(), 0)
			}
			if _, bad := add(t, r, c.over.build(), time.Second); bad != c.reason {
				t.Errorf("got %v, want %v", bad, c.reason)
			}
			if n := r.Len(); n != c.left {
				t.Errorf("%d datagrams wait, want %d", n, c.left)
			}
			if lost := r.Expire(time.Second); lost != c.lost {
				t.Errorf("%+v were discarded, want %+v", lost, c.lost)
			}
		})
	}
}

// A flood of single fragments with the source's own address does not keep its next datagram from becoming complete.
func TestDatagramCompletesDuringFlood(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		for name, c := range map[string]struct {
			sources uint8
			limits  fragment.Limits
		}{
			"one source":   {1, fragment.Limits{PerSourceBytes: 128 << 10}},
			"many sources": {250, fragment.Limits{Bytes: 128 << 10}},
		} {
			r := fragment.New(c.limits)
			f := base
			f.data = payload(6000, 0)
			for id := range uint32(1000) {
				for i, g := range f.cut(1000) {
					g.id = id
					for k := range uint32(5) {
						add(t, r, frag{v6: base.v6, next: 17, source: uint8(id*5+k) % c.sources, id: 2000 + (id*6+uint32(i))*5 + k, data: payload(1000, 1), more: true}.build(), 0)
					}
					w, bad := add(t, r, g.build(), 0)
					if f.id = id; bad != drop.None {
						t.Fatalf("%s: datagram %d: %v", name, id, bad)
					}
					if i == 5 {
						want(t, w, f, 1000)
					}
				}
			}
			if n := r.Bytes(); n > 128<<10 {
				t.Errorf("%s: %d bytes wait", name, n)
			}
		}
	})
}

// The addresses of an IPv6 prefix share the limits of one source; IPv4 addresses do not.
func TestSourceIsAPrefix(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{PerSource: 4, PrefixLen: 64})
		for source := range uint8(8) {
			add(t, r, frag{v6: base.v6, next: 17, source: source, id: 1, data: payload(8, 0), more: true}.build(), 0)
		}
		want := 8
		if base.v6 {
			want = 4
		}
		if n := r.Len(); n != want {
			t.Errorf("%d datagrams wait, want %d", n, want)
		}
	})
}

// A fast IPv4 source reuses an Identification before a datagram that lost a fragment has expired.
func TestReusedIdentificationStartsDatagram(t *testing.T) {
	t.Parallel()
	family(t, func(t *testing.T, base frag) {
		r := fragment.New(fragment.Limits{})
		f := base
		f.data = payload(2000, 0)
		add(t, r, f.cut(1000)[0].build(), 0)
		for id := range uint32(1 << 15) {
			g := base
			g.id, g.data = 1<<16+id, payload(16, 0)
			if !base.v6 {
				g.id = base.id + 1 + id
			}
			for _, part := range g.cut(8) {
				add(t, r, part.build(), 0)
			}
		}
		f.data = payload(2000, 1)
		var w fragment.Whole
		var bad drop.Reason
		for _, g := range f.cut(1000) {
			w, bad = add(t, r, g.build(), 0)
		}
		if base.v6 {
			if bad != drop.FragmentOverlap { // 32-bit Identifications do not repeat so soon
				t.Errorf("got %v, want %v", bad, drop.FragmentOverlap)
			}
			return
		}
		want(t, w, f, 1000)
	})
}

func TestSetLimits(t *testing.T) {
	t.Parallel()
	r := fragment.New(fragment.Limits{PerSource: 2})
	f := frag{next: 17, data: payload(40, 0)}
	fs := f.cut(8)
	r.SetLimits(fragment.Limits{Time: time.Minute})
	for i, at := range []time.Duration{0, 30 * time.Second, 31 * time.Second, 32 * time.Second} {
		add(t, r, fs[i].build(), at)
	}
	r.SetLimits(fragment.Limits{Time: time.Minute, PerSource: 2})
	if r.Len() != 1 {
		t.Fatal("a new limit discards stored datagrams")
	}
	if _, bad := add(t, r, fs[4].build(), 33*time.Second); bad != drop.FragmentSource || r.Len() != 0 {
		t.Fatalf("%v, %d datagrams wait", bad, r.Len())
	}
}
