package dissect

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// Reassembler makes whole packets of fragments. It is not for concurrent use. It is not gopacket's own (ip4defrag), which has no
// counterpart for IPv6 and refuses last fragments of less than 8 bytes.
type Reassembler struct{ pieces map[key][]piece }

// key is what the fragments of a packet have in common (RFC 791 section 3.2, RFC 8200 section 4.5).
type key struct {
	src, dst netip.Addr
	protocol layers.IPProtocol
	id       uint32
}

// piece is a fragment: where its payload begins, and whether it is the last.
type piece struct {
	at   int
	last bool
	*Packet
}

// NewReassembler returns a Reassembler.
func NewReassembler() *Reassembler { return &Reassembler{map[key][]piece{}} }

// Add takes a fragment, which it keeps, and returns the bytes of the packet that it completes, or nil if more are missing.
// Fragments of IPv4 with DF set are an error, and so are overlapping ones.
func (r *Reassembler) Add(p *Packet) ([]byte, error) {
	k := key{src: p.Src.Addr(), dst: p.Dst.Addr()}
	part := piece{Packet: p}
	switch {
	case !p.Fragmented():
		return nil, errors.New("not a fragment")
	case p.IP6 != nil:
		k.protocol, k.id = p.Fragment.NextHeader, p.Fragment.Identification
		part.at, part.last = 8*int(p.Fragment.FragmentOffset), !p.Fragment.MoreFragments
	case p.IP4.Flags&layers.IPv4DontFragment != 0:
		return nil, errors.New("a fragment has DF set")
	default:
		k.protocol, k.id = p.IP4.Protocol, uint32(p.IP4.Id)
		part.at, part.last = 8*int(p.IP4.FragOffset), p.IP4.Flags&layers.IPv4MoreFragments == 0
	}
	pieces := append(r.pieces[k], part)
	slices.SortFunc(pieces, func(a, b piece) int { return cmp.Compare(a.at, b.at) })
	r.pieces[k] = pieces
	payload, err := joined(pieces)
	if payload == nil || err != nil {
		return nil, err
	}
	delete(r.pieces, k)
	return whole(pieces[0].Packet, k.protocol, payload)
}

// joined returns the payload that sorted pieces make, nil if some are missing.
func joined(pieces []piece) (payload []byte, err error) {
	for _, p := range pieces {
		switch {
		case p.at < len(payload):
			return nil, fmt.Errorf("fragments overlap at byte %d", p.at)
		case p.at > len(payload):
			return nil, nil
		}
		payload = append(payload, p.Payload...)
	}
	if !pieces[len(pieces)-1].last {
		return nil, nil
	}
	return payload, nil
}

// whole returns the packet that first is the first fragment of.
func whole(first *Packet, protocol layers.IPProtocol, payload []byte) ([]byte, error) {
	var ip gopacket.SerializableLayer
	if first.IP4 != nil {
		h := *first.IP4
		h.Flags, h.FragOffset = 0, 0
		ip = &h
	} else {
		h := *first.IP6
		h.NextHeader = protocol
		ip = &h
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, gopacket.Payload(payload))
	return b.Bytes(), err
}

// Whole reassembles the one packet that all pieces belong to, in any order. A packet that is no fragment is its own whole.
func Whole(pieces ...[]byte) ([]byte, error) {
	r := NewReassembler()
	for i, b := range pieces {
		p, err := IP(b)
		if err != nil {
			return nil, err
		}
		done := b
		if p.Fragmented() {
			done, err = r.Add(p)
		}
		switch last := i == len(pieces)-1; {
		case err != nil:
			return nil, err
		case done != nil && !last:
			return nil, fmt.Errorf("packet %d of %d is whole already", i+1, len(pieces))
		case done != nil:
			return done, nil
		}
	}
	return nil, fmt.Errorf("%d fragments do not make a packet", len(pieces))
}
