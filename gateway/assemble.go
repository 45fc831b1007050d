package gateway

import (
	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// maxHeld is how many bytes of reassembled datagrams wait to be sent together: our own choice. Sending each by itself would cost
// a system call for every few packets.
const maxHeld = 256 << 10

// assemble6 keeps an IPv6 fragment until its datagram is whole, which then continues as one packet (RFC 6146 section 3.4).
func (w *worker) assemble6(p *inflight) drop.Reason {
	whole, r := w.reassembler.Add6(&p.view, w.now)
	if r != drop.None {
		return w.refuse6(p, r, fragment.Pointer(&p.view, r))
	}
	p.assembled(whole)
	return drop.None
}

// assemble4 does for an IPv4 fragment what assemble6 does for an IPv6 one. A fragment that cannot be the host's is first
// held to what its header says, as whole packets are; what may be the host's is judged when it is whole.
func (w *worker) assemble4(p *inflight) drop.Reason {
	if !w.hosts(*p.view.IP4().Dst()) {
		if r := w.check4(p, drop.Fragment); r != drop.None {
			return w.refuse4(p, r, 0)
		}
	}
	whole, r := w.reassembler.Add4(&p.view, w.now)
	if r != drop.None {
		return w.refuse4(p, r, 0)
	}
	p.assembled(whole)
	return drop.None
}

// assembled has take run the datagram that a fragment has completed; the zero Whole stands for one that still lacks some.
func (p *inflight) assembled(whole fragment.Whole) {
	if whole.Data == nil {
		return
	}
	f := packet.Frame{Data: whole.Data}
	*p = inflight{arrived: f, frame: f, whole: whole, again: true}
}

// expire frees fragments whose time is over, and counts those and the ones that were evicted.
func (w *worker) expire() {
	lost := w.reassembler.Expire(w.now)
	if lost == (fragment.Lost{}) {
		return
	}
	w.count.Dropped(drop.FragmentTimeout, uint64(lost.Late))
	w.count.Dropped(drop.FragmentSource, uint64(lost.Source))
	w.count.Dropped(drop.FragmentMemory, uint64(lost.Memory))
}
