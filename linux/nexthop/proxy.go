//go:build linux

package nexthop

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	rawsocket "github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// proxy answers ARP requests on the v4 interface. Only Run's goroutine uses it; the goroutine that it starts for each
// socket uses only Table.claims.
type proxy struct {
	t       *Table
	link    Link // interface that conn is bound to
	conn    *rawsocket.Conn
	closing chan struct{} // closed before conn is closed
	done    chan struct{} // closed when the reader of conn has returned
	timer   *time.Timer   // fires at the next step of the claims

	panicked chan *relayed // a panic of the reader of conn; it has room for one
}

// update applies a new snapshot or a new set of proxied addresses.
func (p *proxy) update() {
	s := p.t.state.Load()
	list := answerable(s, *p.t.proxied.Load(), p.t.mode)
	link := s.nics[v4].Link
	again := link.Up && !p.link.Up || link.Index != p.link.Index // the neighbours may have changed while the link was down
	p.t.claims.set(list, link.MAC, again)
	if p.conn != nil && (len(list) == 0 || link.Index != p.link.Index || link.MAC != p.link.MAC) {
		p.close()
	}
	if p.conn == nil && len(list) > 0 {
		p.open(link)
	}
	p.link = link
	p.step()
}

// step sends the probe or announcement that is due, and sets the timer for the next one.
func (p *proxy) step() {
	if p.conn == nil || !p.link.Up {
		return
	}
	m, to, due, wait := p.t.claims.step(time.Now())
	p.timer.Reset(wait)
	if !due {
		return
	}
	if err := send(p.conn, &m, to); err != nil {
		p.t.log.Warn("arp: cannot send probe or announcement", "address", netip.AddrFrom4(m.targetIP), "interface", p.link.Name, "error", err)
	}
}

// open starts to answer on link.
func (p *proxy) open(link Link) {
	conn, err := rawsocket.Listen(&net.Interface{Index: link.Index, Name: link.Name, HardwareAddr: link.MAC[:]},
		rawsocket.Raw, unix.ETH_P_ARP, &rawsocket.Config{Filter: untagged})
	switch {
	case errors.Is(err, unix.ENODEV):
		return // the interface was just deleted: the next snapshot will show it
	case err != nil:
		p.t.log.Error("arp: cannot answer requests for addresses of pool4", "interface", link.Name, "error", err)
		return
	}
	closing, done := make(chan struct{}), make(chan struct{})
	p.conn, p.closing, p.done = conn, closing, done
	go func() {
		defer close(done)
		defer relay(func(r *relayed) {
			select {
			case p.panicked <- r:
			default: // Run is about to panic already
			}
		})
		err := p.t.answer(conn, link.MAC)
		select {
		case <-closing: // closing the socket causes one of several errors
		default:
			p.t.log.Error("arp: cannot answer requests for addresses of pool4", "interface", link.Name, "error", err)
		}
	}()
}

// close stops answering.
func (p *proxy) close() {
	if p.conn == nil {
		return
	}
	close(p.closing)
	_ = p.conn.Close()
	<-p.done
	p.conn = nil
}

// answer answers requests, and detects other stations with addresses of pool4, until conn fails, for example because
// it was closed.
func (t *Table) answer(conn *rawsocket.Conn, mac [6]byte) error {
	buf := make([]byte, arpFrameLen)
	for {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // reported once when the interface goes down; the socket works again when it is up
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		q, ok := parseARP(buf[:n])
		if !ok {
			continue
		}
		reply, answer, hurry := t.claims.hear(q, time.Now())
		if hurry {
			select {
			case t.hurry <- struct{}{}:
			default: // Run has not processed the previous signal
			}
		}
		if !answer {
			continue
		}
		if err := send(conn, &reply, reply.targetMAC); err != nil {
			t.log.Warn("arp: cannot send reply", "address", netip.AddrFrom4(reply.senderIP), "error", err)
		}
	}
}

// send sends one ARP packet to a station.
func send(conn *rawsocket.Conn, a *arp, to [6]byte) error {
	_, err := conn.WriteTo(a.frame(make([]byte, 0, arpFrameLen), to), &rawsocket.Addr{HardwareAddr: to[:]})
	return err
}

// untagged accepts frames without a VLAN. A tag with VLAN 0 only carries a priority; a frame of another VLAN is not
// for this interface. Before a socket of one protocol sees a frame, the kernel removes its tag, even that of an
// unknown VLAN, and marks such a frame as PACKET_OTHERHOST.
var untagged = assemble(
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OTHERHOST, SkipTrue: 3},
	bpf.LoadExtension{Num: bpf.ExtVLANTag}, // 0 if there is no tag
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x0fff, SkipTrue: 1},
	bpf.RetConstant{Val: arpFrameLen},
	bpf.RetConstant{Val: 0},
)

// assemble assembles a filter. It fails only if the filter above is wrong.
func assemble(program ...bpf.Instruction) []bpf.RawInstruction {
	raw, err := bpf.Assemble(program)
	if err != nil {
		panic(err)
	}
	return raw
}
