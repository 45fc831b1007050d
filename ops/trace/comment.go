package trace

import (
	"encoding/binary"
	"fmt"
	"strings"

	"nat64d/gateway"
	"nat64d/packet"
)

// Comment returns the comment of a packet: its direction, its session and, of a packet that is not forwarded, the reason.
func Comment(v *gateway.Verdict, p *gateway.Packet) string {
	part := "received"
	switch {
	case p.Answer:
		part = "answer of the gateway"
	case p.Out:
		part = "sent"
	}
	parts := []string{Direction(v) + " " + part}
	if s := flow(v); s != "" {
		parts = append(parts, s)
	}
	if !p.Out || v.Fate != gateway.Forwarded {
		parts = append(parts, strings.TrimSpace(fate(v)))
	}
	return strings.Join(parts, "; ")
}

// fate returns what became of a packet, without what the packets of the capture show.
func fate(v *gateway.Verdict) string {
	if v.Fate == gateway.Forwarded {
		return "forwarded"
	}
	return Result(v)
}

// flow returns the session of a packet: protocol, client, mapped address and peer.
func flow(v *gateway.Verdict) string {
	if !v.Passed.Has(gateway.Looked) {
		return ""
	}
	f := &v.Flow
	s := fmt.Sprintf("%v %v → %v → %v", f.Proto, end6(f.Client), end4(f.Mapped), end4(f.Remote))
	if Quotes(&v.In) {
		return "about " + s
	}
	return s + ", session " + SessionWord(v)
}

// Direction returns 6to4, 4to6 or hairpin.
func Direction(v *gateway.Verdict) string {
	switch {
	case v.Passed.Has(gateway.Hairpins):
		return "hairpin"
	case v.Side == packet.V6:
		return "6to4"
	}
	return "4to6"
}

// SessionWord returns whether the packet has made or found its session, or has none.
func SessionWord(v *gateway.Verdict) string {
	switch s := v.State; {
	case s.Made:
		return "made"
	case v.Flow.Slot() != 0:
		return "found"
	}
	return "none"
}

// Finish writes the transport checksum that the sender has left to its NIC into a captured packet, if the capture has all of it.
func Finish(p *gateway.Packet) {
	at := int(p.Start) + int(p.Offset)
	if p.Start == 0 || len(p.Data) < p.Length || at+2 > len(p.Data) {
		return
	}
	sum := packet.Sum(0).Bytes(p.Data[p.Start:]).Checksum() // of the pseudo-header in the field, and the rest
	if sum == 0 && p.Offset == packet.UDPChecksum {
		sum = 0xffff // 0 means that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(p.Data[at:], sum)
}
