package trace

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"nat64d/gateway"
	"nat64d/packet"
)

// Capture writes packets as a pcapng file, in which each of the two networks is an interface and each packet has a comment. The
// packets begin with their IP header (LINKTYPE_RAW), as the gateway gets them. It is not safe for concurrent use.
type Capture struct {
	w     io.Writer
	ng    *pcapgo.NgWriter
	block bytes.Buffer // what ng has written
	lost  uint64
}

// Interfaces are the names of the interfaces of a capture, by their side.
type Interfaces [packet.Families]string

// NewCapture begins a file. version is that of the program, snap the maximum number of bytes of a packet.
func NewCapture(w io.Writer, version string, names Interfaces, snap int) (*Capture, error) {
	c := &Capture{w: w}
	options := pcapgo.DefaultNgWriterOptions
	options.SectionInfo.Application = "nat64d " + version
	side := func(f packet.Family, about string) pcapgo.NgInterface {
		return pcapgo.NgInterface{Name: names[f], Description: about, OS: "linux", LinkType: layers.LinkTypeRaw, SnapLength: uint32(snap)}
	}
	var err error
	c.ng, err = pcapgo.NewNgWriterInterface(&c.block, side(packet.V6, "nat64d, IPv6 side"), options)
	if err != nil {
		return nil, err
	}
	if _, err := c.ng.AddInterface(side(packet.V4, "nat64d, IPv4 side")); err != nil {
		return nil, err
	}
	return c, c.flush(nil)
}

// Write adds the packets of a record. They have the same time, that of the batch in which they were processed.
func (c *Capture) Write(r *gateway.Record) error {
	for i := range r.Packets {
		p := &r.Packets[i]
		finish(p)
		info := gopacket.CaptureInfo{Timestamp: r.Time, CaptureLength: len(p.Data), Length: max(p.Length, len(p.Data)), InterfaceIndex: int(p.Family)}
		if err := c.ng.WritePacket(info, p.Data); err != nil {
			return err
		}
		if err := c.flush(comment(Comment(&r.Verdict, p))); err != nil {
			return err
		}
	}
	return nil
}

// Lost adds statistics with the number of packets that are missing, as dropped on the interface of the IPv6 side.
func (c *Capture) Lost(n uint64, at time.Time) error {
	c.lost += n
	stats := pcapgo.NgInterfaceStatistics{LastUpdate: at, PacketsDropped: c.lost, PacketsReceived: pcapgo.NgNoValue64}
	if err := c.ng.WriteInterfaceStats(int(packet.V6), stats); err != nil {
		return err
	}
	return c.flush(nil)
}

// flush passes on what ng has written, with options added to the last block, which is a packet if there are options: ng has no way
// to write them itself.
func (c *Capture) flush(options []byte) error {
	if err := c.ng.Flush(); err != nil {
		return err
	}
	b := c.block.Bytes()
	if len(options) > 0 {
		end := len(b) - 4 // the length again
		size := uint32(len(b) + len(options))
		b = append(b[:end:end], options...)
		b = binary.LittleEndian.AppendUint32(b, size)
		binary.LittleEndian.PutUint32(b[4:], size)
	}
	c.block.Reset()
	_, err := c.w.Write(b)
	return err
}

// comment returns the options of a packet block that contain a comment (draft-ietf-opsawg-pcapng section 3.5).
func comment(text string) (b []byte) {
	const optComment, optEnd = 1, 0
	text = text[:min(len(text), 1<<15)]
	b = binary.LittleEndian.AppendUint16(b, optComment)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	b = append(b, make([]byte, -len(text)&3)...)
	return append(b, optEnd, 0, 0, 0)
}

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

// finish writes the transport checksum that the sender has left to its NIC, if the capture has the whole packet.
func finish(p *gateway.Packet) {
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
