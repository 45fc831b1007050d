package session

import "nat64d/packet"

// side is the side from which a packet comes.
type side uint8

const (
	v6 side = iota
	v4
	sides
)

// timer is the effect of a packet on the lifetime of its session.
type timer uint8

const (
	keep        timer = iota // nothing
	restart                  // begin again with the same duration
	established              // TCP_EST from now on
	opening                  // TCP_TRANS of a connection that opens, from now on
	transitory               // TCP_TRANS of one that closes, from now on
	refused                  // nothing, but the other end has refused the connection
)

// step is one transition.
type step struct {
	next  State
	timer timer
}

// machine is the transition table: the step for a state, a side and an event.
type machine [states][sides][events]step

// with returns the machine with the two configurable rules and with void events.
func (m machine) with(c *Config) machine {
	for s := range m {
		for from := range m[s] {
			m[s][from][void] = step{State(s), keep}
		}
	}
	if !c.InboundRefresh {
		internet := v4
		if c.InternetIsV6 {
			internet = v6
		}
		for ev := range m[Active][internet] {
			m[Active][internet][ev].timer = keep
		}
	}
	if !c.RSTDuringFIN {
		for _, s := range []State{V4FinRcv, V6FinRcv} {
			m[s][v6][packet.RST].timer = established
			m[s][v4][packet.RST].timer = established
		}
	}
	return m
}

// steps is the TCP state machine of RFC 6146 section 3.5.2.2, a transition a line; every packet in it is forwarded.
// enter6 and enter4 handle packets without a session (CLOSED), settle the expiry of ESTABLISHED.
//
// Four lines deviate from RFC 6146. A RST after one FIN sets TCP_TRANS, not TCP_EST (RFC 7857 section 2.2), unless
// RSTDuringFIN is off. A V6 SYN in V4 FIN + V6 FIN RCV or in TRANS starts over in V6 INIT: it is a new connection on
// the ports of the old one, which RFC 6146 would end with the old lifetime, or treat as established at once. RFC 7857
// section 2.1 has separate timeouts for opening and closing; by default both are TCP_TRANS.
var steps = machine{
	Active: {
		v6: {
			packet.SYN:   {Active, restart},
			packet.FIN:   {Active, restart},
			packet.RST:   {Active, restart},
			packet.Other: {Active, restart},
		},
		v4: {
			packet.SYN:   {Active, restart},
			packet.FIN:   {Active, restart},
			packet.RST:   {Active, restart},
			packet.Other: {Active, restart},
		},
	},
	V4Init: {
		v6: {
			packet.SYN:   {Established, established},
			packet.FIN:   {V4Init, keep},
			packet.RST:   {V4Init, refused},
			packet.Other: {V4Init, keep},
		},
		v4: {
			packet.SYN:   {V4Init, keep},
			packet.FIN:   {V4Init, keep},
			packet.RST:   {V4Init, keep},
			packet.Other: {V4Init, keep},
		},
	},
	V6Init: {
		v6: {
			packet.SYN:   {V6Init, opening},
			packet.FIN:   {V6Init, keep},
			packet.RST:   {V6Init, keep},
			packet.Other: {V6Init, keep},
		},
		v4: {
			packet.SYN:   {Established, established},
			packet.FIN:   {V6Init, keep},
			packet.RST:   {V6Init, refused},
			packet.Other: {V6Init, keep},
		},
	},
	Established: {
		v6: {
			packet.SYN:   {Established, established},
			packet.FIN:   {V6FinRcv, keep},
			packet.RST:   {Trans, transitory},
			packet.Other: {Established, established},
		},
		v4: {
			packet.SYN:   {Established, established},
			packet.FIN:   {V4FinRcv, keep},
			packet.RST:   {Trans, transitory},
			packet.Other: {Established, established},
		},
	},
	V4FinRcv: {
		v6: {
			packet.SYN:   {V4FinRcv, established},
			packet.FIN:   {V4FinV6FinRcv, transitory},
			packet.RST:   {V4FinRcv, transitory},
			packet.Other: {V4FinRcv, established},
		},
		v4: {
			packet.SYN:   {V4FinRcv, established},
			packet.FIN:   {V4FinRcv, established},
			packet.RST:   {V4FinRcv, transitory},
			packet.Other: {V4FinRcv, established},
		},
	},
	V6FinRcv: {
		v6: {
			packet.SYN:   {V6FinRcv, established},
			packet.FIN:   {V6FinRcv, established},
			packet.RST:   {V6FinRcv, transitory},
			packet.Other: {V6FinRcv, established},
		},
		v4: {
			packet.SYN:   {V6FinRcv, established},
			packet.FIN:   {V4FinV6FinRcv, transitory},
			packet.RST:   {V6FinRcv, transitory},
			packet.Other: {V6FinRcv, established},
		},
	},
	V4FinV6FinRcv: {
		v6: {
			packet.SYN:   {V6Init, opening},
			packet.FIN:   {V4FinV6FinRcv, keep},
			packet.RST:   {V4FinV6FinRcv, keep},
			packet.Other: {V4FinV6FinRcv, keep},
		},
		v4: {
			packet.SYN:   {V4FinV6FinRcv, keep},
			packet.FIN:   {V4FinV6FinRcv, keep},
			packet.RST:   {V4FinV6FinRcv, keep},
			packet.Other: {V4FinV6FinRcv, keep},
		},
	},
	Trans: {
		v6: {
			packet.SYN:   {V6Init, opening},
			packet.FIN:   {Established, established},
			packet.RST:   {Trans, keep},
			packet.Other: {Established, established},
		},
		v4: {
			packet.SYN:   {Established, established},
			packet.FIN:   {Established, established},
			packet.RST:   {Trans, keep},
			packet.Other: {Established, established},
		},
	},
}
