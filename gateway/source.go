package gateway

import (
	"nat64d/config"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool6"
)

// verify6 refuses sources that no client can have, and forged ones. It asks for the way of an answer, once for each source
// as long as nothing changes, if the way depends on the source alone. With quotes the packet may be an ICMP error: its route
// does not matter, and its sender, a router, may have a link-local address only.
func (w *worker) verify6(v *packet.View, quotes bool) drop.Reason {
	src := v.IP6().Src()
	if !quotes && w.verified.has6(src) {
		return drop.None
	}
	if _, loop := pool6.Match(w.conf.prefixes, src); loop {
		return drop.SourceInPool6 // RFC 6146 section 5.4
	}
	switch local := pool6.LinkLocal6(src); {
	case pool6.Mapped6(src):
		return drop.MappedSource
	case quotes && local:
		return drop.None
	case !pool6.Unicast6(src):
		return drop.Source6
	}
	_, _, r := w.hops.Hop6(w.out.Reply6(v))
	switch check := w.conf.SourceCheck; {
	case r == drop.HostAddress:
		return drop.OwnSource
	case quotes:
		return drop.None
	case check == config.SourceCheckOff:
	case r == drop.NoRoute, r == drop.OtherInterface && check == config.SourceCheckStrict:
		return drop.UnroutedSource
	}
	if w.hops.ByDestination() { // otherwise the reply to another packet may take another way
		*w.verified.at6(src) = *src
	}
	return drop.None
}

// verify4 refuses invalid and forged sources. A hairpinned packet legitimately has a source in pool4.
func (w *worker) verify4(p *inflight, quotes bool) drop.Reason {
	v := &p.view
	src := *v.IP4().Src()
	switch {
	case p.hairpin, !quotes && w.verified.has4(src):
		return drop.None
	case w.pooled(src):
		return drop.SourceInPool4
	case quotes && !w.conf.reports(src), !quotes && !w.conf.unicast4(src):
		return drop.Source4
	case pool6.ClassOf4(src) == pool6.Unusable: // a router's, such as 127.0.0.1: reporter replaces it
		return drop.None
	case !quotes && pool6.ClassOf4(src) == pool6.LinkLocal:
		return drop.LinkLocal4
	}
	if _, _, r := w.hops.Hop4(w.out.Reply4(v)); r == drop.HostAddress && !w.conf.FromHost4 {
		return drop.OwnSource
	}
	if !quotes && w.hops.ByDestination() {
		*w.verified.at4(src) = src
	}
	return drop.None
}
