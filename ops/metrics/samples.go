package metrics

import "nat64d/drop"

// Samples returns all that workers count, in a fixed order.
func (s *Set) Samples() (list []Sample) {
	for d := range directions {
		for p := range Protocol(protocols) {
			packets, bytes := s.traffic(d, p)
			list = append(list, Packets.With(packets, d.String(), p.String()), Bytes.With(bytes, d.String(), p.String()))
		}
	}
	for _, d := range []Direction{From6To4, From4To6} {
		list = append(list, s.balance(d)...)
	}
	frames, packets, merged, adjacent := s.Received()
	list = append(list, ReceivedFrames.With(frames), ReceivedPackets.With(packets), MergedDatagrams.With(merged), AdjacentDatagrams.With(adjacent))
	list = append(list, s.derived()...)
	for e := range events {
		list = append(list, eventRows[e].id.With(s.Event(e), eventRows[e].labels...))
	}
	for p := range Protocol(protocols) {
		list = append(list, Pool4Failures.With(s.sum(func(w *Worker) uint64 { return w.noPort[p].Load() }), p.String()))
	}
	return list
}

// balance returns the samples of the frames that arrived in one direction: at a moment without traffic ArrivedFrames is the sum of
// ForwardedFrames, Host, WaitingFrames and, except for drop.Transmit, Dropped.
func (s *Set) balance(d Direction) []Sample {
	b := s.Balance(d)
	list := []Sample{ArrivedFrames.With(b.Arrived, d.String()), ForwardedFrames.With(b.Forwarded, d.String())}
	for i := range waits {
		list = append(list, WaitingFrames.With(b.Waiting[i], d.String(), i.String()))
	}
	for r := drop.None + 1; r < drop.Count; r++ {
		id := Dropped
		if r.Host() {
			id = Host
		}
		list = append(list, id.With(s.dropped(d, r), d.String(), r.String()))
	}
	list = append(list, TranslateDuration.Over(s.durations(d), d.String()))
	return list
}

// dropped returns how many packets that arrived in one direction were not forwarded for a reason.
func (s *Set) dropped(d Direction, r drop.Reason) uint64 {
	return s.sum(func(w *Worker) uint64 {
		if w.direction != d {
			return 0
		}
		return w.drops[r].Load()
	})
}

func (s *Set) sum(of func(*Worker) uint64) (n uint64) {
	for i := range s.workers {
		n += of(&s.workers[i])
	}
	return n
}

// derived returns sums of drop reasons that answer a question of their own.
func (s *Set) derived() (list []Sample) {
	for _, x := range []struct {
		id      ID
		label   string
		reasons []drop.Reason
	}{
		{Fragments, "evicted", []drop.Reason{drop.FragmentSource, drop.FragmentMemory}},
		{Fragments, "timeout", []drop.Reason{drop.FragmentTimeout}},
		{Fragments, "refused", []drop.Reason{
			drop.Fragment, drop.FragmentLength, drop.FragmentSpan, drop.FragmentHeader, drop.FragmentTiny, drop.FragmentOverlap, drop.FragmentTwice,
		}},
		{ChecksumErrors, "ipv4", []drop.Reason{drop.HeaderChecksum4}},
		{ChecksumErrors, "icmp", []drop.Reason{drop.ICMPChecksum}},
		{ClientLimitHits, "bindings", []drop.Reason{drop.ClientBindings}},
		{ClientLimitHits, "share", []drop.Reason{drop.ClientShare}},
		{ClientLimitHits, "sessions", []drop.Reason{drop.ClientSessions}},
		{ClientLimitHits, "rate", []drop.Reason{drop.ClientRate}},
	} {
		n := uint64(0)
		for _, r := range x.reasons {
			n += s.Drops(r)
		}
		list = append(list, x.id.With(n, x.label))
	}
	return append(list, Fragments.With(s.sum(func(w *Worker) uint64 { return w.reassembled.Load() }), "reassembled"))
}

// Losses returns the packets that the kernel has dropped because the ring of a side was full, and those that the NIC of the side, 0
// for IPv6 and 1 for IPv4, has refused to send.
func (s *Set) Losses(side int) (ring, refused uint64) {
	d := [2]Direction{From6To4, From4To6}[side]
	return s.dropped(d, drop.Ring), s.sum(func(w *Worker) uint64 { return w.refused[side].Load() })
}
