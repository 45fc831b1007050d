package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"

	"nat64d/ops/control"
)

// pcapng writes a capture as a pcapng file, in which each side is an interface and each packet has a comment. The packets begin with
// their IP header (LINKTYPE_RAW). Each write to w is a whole block, so that a capture that ends at any time ends behind a block.
type pcapng struct {
	w       io.Writer
	ng      *pcapgo.NgWriter
	block   bytes.Buffer   // what ng has written
	sides   map[string]int // the number of a side's interface
	packets int
	lost    uint64
}

// start begins the file.
func (p *pcapng) start(s control.CaptureStart) (err error) {
	options := pcapgo.DefaultNgWriterOptions
	options.SectionInfo.Application = "nat64d " + s.Version
	p.sides = map[string]int{}
	for n, i := range s.Interfaces {
		about := pcapgo.NgInterface{
			Name: i.Name, Description: "nat64d, " + i.Side, OS: "linux", LinkType: layers.LinkTypeRaw, SnapLength: uint32(s.Snap),
		}
		if n == 0 {
			p.ng, err = pcapgo.NewNgWriterInterface(&p.block, about, options)
		} else {
			_, err = p.ng.AddInterface(about)
		}
		if err != nil {
			return err
		}
		p.sides[i.Side] = n
	}
	return p.flush(nil)
}

// packet adds a packet.
func (p *pcapng) packet(c control.Captured) error {
	n, ok := p.sides[c.Side]
	if !ok {
		return fmt.Errorf("a packet of the unknown side %q; nat64ctl and nat64d are of different versions", c.Side)
	}
	info := gopacket.CaptureInfo{Timestamp: c.Time, CaptureLength: len(c.Data), Length: c.Length, InterfaceIndex: n}
	if err := p.ng.WritePacket(info, c.Data); err != nil {
		return err
	}
	if err := p.flush(commentOption(c.Comment)); err != nil {
		return err
	}
	p.packets++
	return nil
}

// missed adds statistics with the number of packets that are missing, as dropped on the first interface.
func (p *pcapng) missed(n uint64) error {
	p.lost += n
	stats := pcapgo.NgInterfaceStatistics{LastUpdate: time.Now(), PacketsDropped: p.lost, PacketsReceived: pcapgo.NgNoValue64}
	if err := p.ng.WriteInterfaceStats(0, stats); err != nil {
		return err
	}
	return p.flush(nil)
}

// flush passes on what ng has written, with options added to the last block, which is a packet if there are options: ng has no way
// to write them itself.
func (p *pcapng) flush(options []byte) error {
	if err := p.ng.Flush(); err != nil {
		return err
	}
	b := p.block.Bytes()
	if len(options) > 0 {
		end := len(b) - 4 // the length again
		size := uint32(len(b) + len(options))
		b = append(b[:end:end], options...)
		b = binary.LittleEndian.AppendUint32(b, size)
		binary.LittleEndian.PutUint32(b[4:], size)
	}
	p.block.Reset()
	_, err := p.w.Write(b)
	return err
}

// commentOption returns the options of a packet block that contain a comment (draft-ietf-opsawg-pcapng section 3.5).
func commentOption(text string) (b []byte) {
	const optComment, optEnd = 1, 0
	text = text[:min(len(text), 1<<15)]
	b = binary.LittleEndian.AppendUint16(b, optComment)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	b = append(b, text...)
	b = append(b, make([]byte, -len(text)&3)...)
	return append(b, optEnd, 0, 0, 0)
}
