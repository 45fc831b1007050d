package nexthop

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	rawsocket "github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// answered are the addresses that ARP requests are answered for. It is replaced, never changed.
type answered map[packet.Addr4]struct{}

// answerable returns which of the proxied addresses qualify: IPv4, owned by no interface of this host, and, unless
// the mode is on, within a subnet of the v4 interface but not its network or broadcast address.
func answerable(s *snapshot, proxied []netip.Addr, mode AnswerARP) answered {
	set := answered{}
	if mode == ARPOff || s.nics[v4].Index == 0 {
		return set
	}
	for _, a := range proxied {
		if !a.Is4() || slices.Contains(s.hosts, a) {
			continue
		}
		if mode == ARPOn || slices.ContainsFunc(s.subnets, func(p netip.Prefix) bool { return station(p, a) }) {
			set[a.As4()] = struct{}{}
		}
	}
	return set
}

// station says whether a can be a station of the subnet p.
func station(p netip.Prefix, a netip.Addr) bool {
	last, ok := broadcastOf(p)
	return p.Contains(a) && (!ok || a != p.Masked().Addr() && a != last)
}

// announcements is how often a newly answered address is announced, once in each tick (RFC 5227 section 1.1,
// ANNOUNCE_NUM).
const announcements = 2

// proxy answers ARP requests on the v4 interface. It belongs to Run's goroutine; the goroutine that it starts for
// each socket reads the set of addresses through Table.answered only.
type proxy struct {
	t        *Table
	link     Link // to which conn is bound
	conn     *rawsocket.Conn
	closing  chan struct{} // closed when conn is about to be
	done     chan struct{} // closed when the reader of conn has ended
	announce map[packet.Addr4]int
}

// update adapts to a new snapshot or another set of proxied addresses.
func (p *proxy) update() {
	s := p.t.state.Load()
	set := answerable(s, *p.t.proxied.Load(), p.t.mode)
	old := *p.t.answered.Load()
	p.t.answered.Store(&set)
	link := s.nics[v4].Link
	if p.conn != nil && (len(set) == 0 || link.Index != p.link.Index || link.MAC != p.link.MAC) {
		p.close()
	}
	if p.conn == nil && len(set) > 0 {
		p.open(link)
	}
	again := link.Up && !p.link.Up // the neighbours may have changed meanwhile
	p.link = link
	for a := range set {
		if _, known := old[a]; !known || again {
			p.announce[a] = announcements
		}
	}
	maps.DeleteFunc(p.announce, func(a packet.Addr4, _ int) bool { _, ok := set[a]; return !ok })
	p.tick()
}

// tick sends the announcements that are due.
func (p *proxy) tick() {
	if p.conn == nil || !p.link.Up {
		return
	}
	for a, n := range p.announce {
		m := announcement(a, p.link.MAC)
		if err := send(p.conn, &m, everyone); err != nil {
			p.t.log.Warn("arp announcement not sent", "address", netip.AddrFrom4(a), "interface", p.link.Name, "error", err)
		}
		if n--; n > 0 {
			p.announce[a] = n
		} else {
			delete(p.announce, a)
		}
	}
}

// open starts answering on link.
func (p *proxy) open(link Link) {
	conn, err := rawsocket.Listen(&net.Interface{Index: link.Index, Name: link.Name, HardwareAddr: link.MAC[:]},
		rawsocket.Raw, unix.ETH_P_ARP, &rawsocket.Config{Filter: requests})
	switch {
	case errors.Is(err, unix.ENODEV):
		return // it has just gone: the next snapshot will say so
	case err != nil:
		p.t.log.Error("arp: addresses of pool4 are not answered for", "interface", link.Name, "error", err)
		return
	}
	closing, done := make(chan struct{}), make(chan struct{})
	p.conn, p.closing, p.done = conn, closing, done
	go func() {
		defer close(done)
		err := p.t.answer(conn, link.MAC)
		select {
		case <-closing: // the error is that of a closed socket, of which there are several kinds
		default:
			p.t.log.Error("arp: addresses of pool4 are not answered for", "interface", link.Name, "error", err)
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

// answer answers requests until conn fails, for instance because it is closed.
func (t *Table) answer(conn *rawsocket.Conn, mac [6]byte) error {
	buf := make([]byte, arpFrameLen)
	for {
		n, _, err := conn.ReadFrom(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN):
			continue // said once when the interface goes down; the socket works again when it is up
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		a, ok := t.answered.Load().reply(buf[:n], mac)
		if !ok {
			continue
		}
		if err := send(conn, &a, a.targetMAC); err != nil {
			t.log.Warn("arp reply not sent", "address", netip.AddrFrom4(a.senderIP), "error", err)
		}
	}
}

// reply returns the answer of the station mac to a received frame, if it is one to be answered.
func (s answered) reply(frame []byte, mac [6]byte) (arp, bool) {
	q, ok := parseARP(frame)
	if !ok || q.op != arpRequest || q.senderMAC == mac {
		return arp{}, false
	}
	if _, ok := s[q.targetIP]; !ok {
		return arp{}, false
	}
	return replyTo(q, mac), true
}

// send sends one ARP packet to a station.
func send(conn *rawsocket.Conn, a *arp, to [6]byte) error {
	_, err := conn.WriteTo(a.frame(make([]byte, 0, arpFrameLen), to), &rawsocket.Addr{HardwareAddr: to[:]})
	return err
}

// requests passes untagged ARP requests: a frame of another VLAN is not for this interface.
var requests = assemble(
	bpf.LoadExtension{Num: bpf.ExtVLANTagPresent},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 0, SkipTrue: 3},
	bpf.LoadAbsolute{Off: packet.EthLen + 6, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: arpRequest, SkipTrue: 1},
	bpf.RetConstant{Val: arpFrameLen},
	bpf.RetConstant{Val: 0},
)

// assemble turns a filter into what the kernel takes. An error is a mistake in the filter above.
func assemble(program ...bpf.Instruction) []bpf.RawInstruction {
	raw, err := bpf.Assemble(program)
	if err != nil {
		panic(err)
	}
	return raw
}
