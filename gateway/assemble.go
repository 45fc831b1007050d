package gateway

import (
	"nat64d/drop"
	"nat64d/fragment"
	"nat64d/packet"
)

// assemblers hold the datagrams that are not whole yet, of both families: a hairpinned packet is in both.
type assemblers struct{ six, four *fragment.Reassembler }

// assemble6 keeps an IPv6 fragment until its datagram is whole, which then goes on as one (RFC 6146 section 3.4).
func (w *worker) assemble6(v *packet.View) drop.Reason {
	whole, r := w.parts.six.Add6(v, w.now)
	if r != drop.None {
		return w.refuse6(v, r, fragment.Pointer(v, r))
	}
	return w.assembled(whole, w.from6)
}

// assemble4 does for an IPv4 fragment what assemble6 does for an IPv6 one. A fragment that cannot be the host's is first
// held to what its header says, as whole packets are; what may be the host's is judged when it is whole.
func (w *worker) assemble4(v *packet.View) drop.Reason {
	if !w.hosts(*v.IP4().Dst()) {
		if r := w.check4(v, drop.Fragment); r != drop.None {
			return w.refuse4(v, r, 0)
		}
	}
	whole, r := w.parts.four.Add4(v, w.now)
	if r != drop.None {
		return w.refuse4(v, r, 0)
	}
	return w.assembled(whole, w.from4)
}

// assembled takes a datagram through the gateway if it is whole.
func (w *worker) assembled(whole fragment.Whole, from func(*packet.Frame) drop.Reason) drop.Reason {
	if whole.Data == nil {
		return drop.None // it waits for the rest
	}
	w.whole, w.top = whole, packet.Frame{Data: whole.Data}
	r := from(&w.top)
	w.whole = fragment.Whole{}
	if w.parts.six.Held()+w.parts.four.Held() > maxHeld {
		w.out.Flush()
		w.parts.release()
	}
	return r
}

// maxHeld is how many bytes of whole datagrams wait to be sent together: our own choice. Sending each by itself would cost
// a system call for every few packets.
const maxHeld = 256 << 10

// release ends the use of the datagrams that have been sent.
func (a *assemblers) release() {
	a.six.Release()
	a.four.Release()
}

// expire frees fragments whose time is over, and counts those and the ones that have made way for others.
func (w *worker) expire() {
	for _, p := range [...]*fragment.Reassembler{w.parts.six, w.parts.four} {
		lost := p.Expire(w.now)
		if lost == (fragment.Lost{}) {
			continue
		}
		w.count.Dropped(drop.FragmentTimeout, uint64(lost.Late))
		w.count.Dropped(drop.FragmentSource, uint64(lost.Source))
		w.count.Dropped(drop.FragmentMemory, uint64(lost.Memory))
	}
}
