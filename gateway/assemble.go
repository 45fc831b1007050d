package gateway

import (
	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// maxHeld limits the bytes of reassembled datagrams that wait to be sent together: our own choice. Sending each
// separately would need a system call for every few packets.
const maxHeld = 256 << 10

// assemble6 keeps an IPv6 fragment until its datagram is whole, which then continues as one packet (RFC 6146 section 3.4).
func (w *worker) assemble6(p *inflight) drop.Reason {
	whole, r := w.reassembler.Add6(&p.view, w.now)
	if r != drop.None {
		return w.refuse6(p, r, fragment.Pointer(&p.view, r))
	}
	w.assembled(p, whole)
	return drop.None
}

// assemble4 does the same for an IPv4 fragment. It checks the header of a fragment that cannot be for the host like
// that of a whole packet; others are checked after reassembly.
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
	w.assembled(p, whole)
	return drop.None
}

// assembled makes take process the datagram that a fragment has completed; the zero Whole means that fragments are
// missing.
func (w *worker) assembled(p *inflight, whole fragment.Whole) {
	if whole.Data == nil {
		return
	}
	w.count.Reassembled(uint64(whole.Fragments))
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
	w.lost(drop.FragmentTimeout, lost.Late)
	w.lost(drop.FragmentSource, lost.Source)
	w.lost(drop.FragmentMemory, lost.Memory)
}
