package pool4

import (
	"bytes"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// piecesOf provides n pieces. It fails a test that gives back a foreign piece.
type piecesOf struct {
	t    testing.TB
	n    int
	made [][]byte
	free [][]byte
}

func (p *piecesOf) Piece() []byte {
	if p.n == 0 {
		return nil
	}
	p.n--
	b := make([]byte, PieceLen)
	p.made = append(p.made, b)
	return b
}

func (p *piecesOf) Free(b []byte) {
	for _, m := range p.made {
		if &m[0] == &b[0] {
			p.n++
			p.free = append(p.free, b)
			return
		}
	}
	p.t.Error("the pool has freed what is no piece")
}

// read decodes all pieces.
func (p *piecesOf) read(now, hold time.Duration) map[transport]HeldPort {
	all := make(map[transport]HeldPort)
	for _, b := range p.made {
		for ; len(b) > 0; b = b[HeldLen:] {
			if h, ok := ReadHeld(b, now, hold); ok {
				all[transport{h.Proto, h.At}] = h
			}
		}
	}
	return all
}

// TestHeldPortsInPieces retires ports in two batches and reads the pieces as a later process does: the ports, their
// owners and the remaining times, before the first Expire and after it, and nothing of ports whose hold-down is over.
func TestHeldPortsInPieces(t *testing.T) {
	t.Parallel()
	const n, hold = 3000, time.Minute
	p, pieces := newPool(t, "192.0.2.1", "10000-19999"), &piecesOf{t: t, n: 6}
	p.KeepHeld(pieces)
	p.Configure(Config{HoldDown: hold, BlockSize: 64, Fields: AllFields})
	retire := func() {
		for i := range uint16(n) {
			q := request(packet.UDP, uint32(i%5), i)
			q.Owner = q.Client.Addr
			e, r := p.Allocate(q)
			if r != drop.None {
				t.Fatal(r)
			}
			p.Retire(packet.UDP, e)
		}
	}
	compare := func(now time.Duration, want int, left ...time.Duration) {
		t.Helper()
		kept, rows := pieces.read(now, hold), make([]HeldPort, 2*n)
		k, _ := p.HeldPorts(0, rows, now)
		if k != want || len(kept) != want {
			t.Fatalf("%v: %d ports are held and %d in pieces, want %d", now, k, len(kept), want)
		}
		for i, h := range rows[:k] {
			h.Remaining = left[i/n]
			if got := kept[transport{h.Proto, h.At}]; got != h {
				t.Fatalf("%v: read %v, want %v", now, got, h)
			}
		}
	}
	retire()
	compare(time.Second, n, hold)
	p.Expire(10*time.Second, n)
	compare(20*time.Second, n, 50*time.Second)
	retire()
	compare(20*time.Second, 2*n, 50*time.Second, hold)
	p.Expire(30*time.Second, n)
	compare(80*time.Second, 2*n, -10*time.Second, 10*time.Second)
	p.Expire(71*time.Second, n)
	compare(80*time.Second, n, 10*time.Second)
	p.Expire(91*time.Second, n)
	compare(91*time.Second, 0)
	if len(pieces.made) != 6 || len(pieces.free) != 5 { // the next ports go into the last one
		t.Errorf("%d of %d pieces are free", len(pieces.free), len(pieces.made))
	}
}

// TestHeldPortsWithoutRoom has room for one piece only: the others are on the heap, and nothing else changes.
func TestHeldPortsWithoutRoom(t *testing.T) {
	t.Parallel()
	p, pieces := newPool(t, "192.0.2.1", "10000-19999"), &piecesOf{t: t, n: 1}
	p.KeepHeld(pieces)
	p.Configure(Config{HoldDown: time.Minute, Fields: AllFields})
	for i := range uint16(3000) {
		e, _ := p.Allocate(request(packet.UDP, 1, i))
		p.Retire(packet.UDP, e)
	}
	if kept := len(pieces.read(0, 0)); kept != segmentPorts || p.Usage()[packet.UDP].Held != 3000 {
		t.Errorf("%d ports are in pieces", kept)
	}
	p.Expire(0, 1)
	p.Expire(time.Hour, 3000)
	if held := p.Usage()[packet.UDP].Held; held != 0 || len(pieces.free) != 1 {
		t.Errorf("%d ports are held, %d pieces are free", held, len(pieces.free))
	}
}

// TestRestoredHeldPortInPieces restores a port whose hold-down began before the clock's zero: the next process sees the
// same remaining time.
func TestRestoredHeldPortInPieces(t *testing.T) {
	t.Parallel()
	p, pieces := newPool(t, "192.0.2.1", "7000"), &piecesOf{t: t, n: 1}
	p.KeepHeld(pieces)
	p.Configure(Config{HoldDown: 2 * time.Minute, Fields: AllFields})
	h := HeldPort{Proto: packet.UDP, At: packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 1}, Port: 7000}, Remaining: time.Minute}
	if !p.HoldDown(&h, time.Second) {
		t.Fatal("not held down")
	}
	h.Remaining = 50 * time.Second
	if got := pieces.read(11*time.Second, 2*time.Minute)[transport{h.Proto, h.At}]; got != h {
		t.Errorf("read %v, want %v", got, h)
	}
}

func goodHeld() []byte {
	b := make([]byte, HeldLen)
	heldEntry(b).set(heldPort{addr: 0xc0000201, port: 7000, proto: packet.UDP, owner: packet.Addr6{0x20, 0x01, 0x0d, 0xb8}})
	heldEntry(b).setSince(time.Second)
	return b
}

// TestDamagedHeldPort flips each bit of an entry: only one of the time leaves a port, and it is the same.
func TestDamagedHeldPort(t *testing.T) {
	t.Parallel()
	good, _ := ReadHeld(goodHeld(), time.Second, time.Minute)
	for bit := range HeldLen * 8 {
		b := goodHeld()
		b[bit/8] ^= 1 << (bit % 8)
		h, ok := ReadHeld(b, time.Second, time.Minute)
		if inTime := bit/8 >= 8 && bit/8 < 12; ok != inTime {
			t.Errorf("bit %d of byte %d flipped: accepted is %v", bit%8, bit/8, ok)
		}
		if h.Remaining = good.Remaining; ok && h != good {
			t.Errorf("bit %d of byte %d flipped: %v", bit%8, bit/8, h)
		}
	}
	if _, ok := ReadHeld(make([]byte, HeldLen), 0, 0); ok {
		t.Error("zeros are a port")
	}
	if _, ok := ReadHeld(goodHeld()[:HeldLen-1], 0, 0); ok {
		t.Error("a part of an entry is a port")
	}
}

// FuzzReadHeld: an accepted entry is the encoding of the port that ReadHeld returns, which is never held for longer than
// the hold-down.
func FuzzReadHeld(f *testing.F) {
	f.Add(goodHeld(), int64(time.Second))
	f.Add(make([]byte, HeldLen), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, now int64) {
		const hold = 2 * time.Minute
		h, ok := ReadHeld(b, time.Duration(now), hold)
		if !ok {
			return
		}
		again := make([]byte, HeldLen)
		heldEntry(again).set(heldPort{addr: numOf(addrOf(heldEntry(b).port().addr)), port: h.At.Port, proto: h.Proto, owner: h.Owner})
		copy(again[8:12], b[8:12])
		if !bytes.Equal(again, b[:HeldLen]) || h.Remaining > hold {
			t.Fatalf("%x is encoded as %x, with %v left", b, again, h.Remaining)
		}
	})
}
