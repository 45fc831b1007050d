package pool4

import (
	"fmt"
	"testing"

	"nat64d/drop"
	"nat64d/packet"
)

func BenchmarkAllocate(b *testing.B) {
	for _, use := range []int{0, 99, 100} {
		b.Run(fmt.Sprintf("%d%%", use), func(b *testing.B) {
			p := newPool(b, "192.0.2.1", "")
			for range 64512 * use / 100 {
				p.Allocate(request(packet.UDP, 1, 5000))
			}
			x := uint16(0)
			for b.Loop() {
				e, r := p.Allocate(request(packet.UDP, 1, x))
				if r == drop.None {
					p.Release(packet.UDP, e)
				}
				x++
			}
		})
	}
}

// BenchmarkAllocateFullPool has one free port in 65,536 addresses.
func BenchmarkAllocateFullPool(b *testing.B) {
	p := New([16]byte{1})
	if _, _, err := p.Add(parse(b, "198.18.0.0/16", "7000", packet.TCP)); err != nil {
		b.Fatal(err)
	}
	for range 65535 {
		p.Allocate(request(packet.TCP, 1, 5000))
	}
	client := uint32(0)
	for b.Loop() {
		e, r := p.Allocate(request(packet.TCP, client, 5000))
		if r != drop.None {
			b.Fatal(r)
		}
		p.Release(packet.TCP, e)
		client++
	}
}

func BenchmarkContains(b *testing.B) {
	p := newPool(b, "192.0.2.0/28", "7000-8000")
	at := packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, 7}, Port: 7500}
	for b.Loop() {
		if !p.Contains(packet.UDP, at) {
			b.Fatal("not contained")
		}
	}
}
