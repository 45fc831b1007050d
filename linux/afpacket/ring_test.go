//go:build linux

package afpacket

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"nat64d/packet"
)

// model is a ring in ordinary memory with a simulation of the kernel's side.
type model struct {
	ring
	head    int      // the slot that the kernel writes next
	pending []uint32 // packets that take must return, in order
	lost    uint64
}

func newModel(t *rapid.T, slots, batch int) *model {
	words := make([]uint64, slots*slotLen/8) // aligned like the kernel's memory
	m := &model{}
	m.memory = unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), slots*slotLen)
	m.slots = slots
	var err error
	if m.large, err = newInbox(batch); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.large.close() })
	return m
}

// put simulates the arrival of a packet; the first bits of its number make it invalid. It reports whether there was a
// free slot.
func (m *model) put(number uint32, whole bool) bool {
	h := m.header(m.head)
	if h.Status != unix.TP_STATUS_KERNEL {
		return false
	}
	slot := m.memory[m.head*slotLen:][:slotLen]
	const mac = 98
	clear(slot[mac-packet.VnetLen : mac])
	binary.BigEndian.PutUint32(slot[mac+packet.EthLen:], number)
	h.Mac, h.Len, h.Snaplen = mac, packet.EthLen+4, packet.EthLen+4
	if whole {
		m.pending = append(m.pending, number)
	} else {
		h.Len = 3000
		m.lost++
	}
	h.Status = unix.TP_STATUS_USER
	m.head = (m.head + 1) % m.slots
	return true
}

// TestRingModel simulates a kernel and a reader on a small ring, at random.
func TestRingModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		const slots, batch = 8, 4
		m := newModel(t, slots, batch)
		number, free := uint32(0), slots
		var used, held int // filled slots, and slots whose frames the reader holds
		fs := make([]packet.Frame, batch+1)
		t.Repeat(map[string]func(*rapid.T){
			"kernel": func(t *rapid.T) {
				number++
				if got := m.put(number, rapid.IntRange(0, 4).Draw(t, "spoilt") > 0); got != (free > 0) {
					t.Fatalf("put: %v with %d slots free", got, free)
				} else if got {
					free, used = free-1, used+1
				}
			},
			"reader": func(t *rapid.T) {
				room := rapid.IntRange(0, len(fs)).Draw(t, "room")
				n, err := m.take(fs[:room])
				if err != nil {
					t.Fatal(err)
				}
				free += held
				held = min(used, room, batch)
				used -= held
				for i, f := range fs[:n] {
					if len(f.Data) != 4 || binary.BigEndian.Uint32(f.Data) != m.pending[i] {
						t.Fatalf("frame %d: %x, want %d", i, f.Data, m.pending[i])
					}
				}
				m.pending = m.pending[n:]
			},
			"": func(t *rapid.T) {
				if m.lent != held {
					t.Fatalf("%d slots lent, want %d", m.lent, held)
				}
				if used == 0 && (len(m.pending) != 0 || m.ring.lost != packet.Drops{Room: m.lost}) {
					t.Fatalf("%d packets not delivered, %d lost, want %d", len(m.pending), m.ring.lost.Room, m.lost)
				}
			},
		})
	})
}
