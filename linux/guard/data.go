//go:build linux

package guard

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// entry is a range of keys in a table that a program searches. A key is a number of several words, least significant
// first. An entry contains its first key, its last key, and in some tables the number of a group.
type entry [8]uint32

// keyTable is a sorted table of disjoint entries.
type keyTable struct {
	words   int16 // of a key
	entries []entry
}

// bits returns the number of steps to search the table, which is padded to one less than a power of two.
func (t *keyTable) bits() int { return max(bits.Len(uint(len(t.entries))), 1) }

// load creates a read-only map from the table.
func (t *keyTable) load() (*ebpf.Map, error) {
	full := slices.Grow(t.entries, 1<<t.bits()-1-len(t.entries))
	for len(full) < 1<<t.bits()-1 {
		var none entry // padding: its first key is the largest, its last the smallest
		for i := range t.words {
			none[i] = math.MaxUint32
		}
		full = append(full, none)
	}
	keys := make([]uint32, len(full))
	for i := range keys {
		keys[i] = uint32(i)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "nat64d_guard", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(binary.Size(entry{})),
		MaxEntries: uint32(len(full))})
	if err != nil {
		return nil, fmt.Errorf("BPF map: %w", err)
	}
	if _, err = m.BatchUpdate(keys, full, nil); err != nil {
		m.Close()
		return nil, fmt.Errorf("BPF map: %w", err)
	}
	return m, nil
}

// table6 returns the covered destinations.
func table6(c *cover) keyTable {
	t := keyTable{words: 4}
	for _, r := range c.spans {
		t.entries = append(t.entries, entry(append(words6(r.first), words6(r.last)...)))
	}
	return t
}

// words6 returns an address as four words.
func words6(a netip.Addr) []uint32 {
	b := a.As16()
	return []uint32{
		binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[0:]),
	}
}

// tables4 returns the covered IPv4 addresses, each with a group, and the covered ports of each group. Addresses with
// the same ports share a group.
func tables4(c *cover) (addresses, ports keyTable) {
	addresses.words, ports.words = 1, 2
	all := slices.Concat(c.transport, c.echo)
	slices.SortFunc(all, func(a, b box) int { return a.first.Compare(b.first) })
	groups := map[string]uint32{}
	for _, r := range runs(all) {
		name := fmt.Sprint(r.ports)
		group, known := groups[name]
		if !known {
			group = uint32(len(groups))
			groups[name] = group
			for _, p := range r.ports {
				ports.entries = append(ports.entries, entry{p[0], group, p[1], group})
			}
		}
		addresses.entries = append(addresses.entries, entry{uint32(r.first), uint32(r.last), group})
	}
	return addresses, ports
}

// run is a range of IPv4 addresses with the same covered ports: ranges of protocol << 16 | port.
type run struct {
	first, last uint64
	ports       [][2]uint32
}

// runs cuts boxes, which are sorted by their first address, into runs.
func runs(boxes []box) (list []run) {
	var borders []uint64
	for _, b := range boxes {
		borders = append(borders, number(b.first), number(b.last)+1)
	}
	slices.Sort(borders)
	borders = slices.Compact(borders)
	var open []box
	for i, at := range borders {
		open = slices.DeleteFunc(open, func(b box) bool { return number(b.last) < at })
		for len(boxes) > 0 && number(boxes[0].first) == at {
			open, boxes = append(open, boxes[0]), boxes[1:]
		}
		if len(open) > 0 {
			list = append(list, run{at, borders[i+1] - 1, portsOf(open)})
		}
	}
	return list
}

// portsOf returns the ports of boxes, sorted. The boxes do not overlap.
func portsOf(boxes []box) (list [][2]uint32) {
	for _, b := range boxes {
		list = append(list, [2]uint32{uint32(b.proto)<<16 | uint32(b.lo), uint32(b.proto)<<16 | uint32(b.hi)})
	}
	slices.SortFunc(list, func(a, b [2]uint32) int { return cmp.Compare(a[0], b[0]) })
	return list
}

// number returns an IPv4 address as a number.
func number(a netip.Addr) uint64 {
	b := a.As4()
	return uint64(binary.BigEndian.Uint32(b[:]))
}
