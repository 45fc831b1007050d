//go:build linux

package nexthop

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/packet"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// middle is a deterministic replacement for the random function.
func middle(n time.Duration) time.Duration { return n / 2 }

func claimed(addrs ...packet.Addr4) *claims {
	c := newClaims(middle, slog.New(slog.DiscardHandler))
	c.set(addrs, gatewayMAC, false)
	return c
}

// holding returns claims that have completed probes and announcements.
func holding(addrs ...packet.Addr4) *claims {
	c := claimed(addrs...)
	for _, l := range c.all {
		l.state = held
	}
	c.queue = nil
	return c
}

// sent is a packet that step returned.
type sent struct {
	at time.Duration // since epoch
	arp
	to [6]byte
}

// run calls step for every due time between from and until.
func (c *claims) run(from, until time.Duration) (list []sent) {
	for now := from; now < until; {
		m, to, send, wait := c.step(epoch.Add(now))
		if send {
			list = append(list, sent{now, m, to})
		}
		now += wait
	}
	return list
}

func (c *claims) mustBe(t *testing.T, a packet.Addr4, want claimState) {
	t.Helper()
	if got, _, ok := c.state(a); !ok || got != want {
		t.Errorf("%v is in state %d, want %d", a, got, want)
	}
}

var (
	one   = packet.Addr4{192, 0, 2, 64}
	two   = packet.Addr4{192, 0, 2, 65}
	asker = packet.Addr4{192, 0, 2, 254}
)

func request(target packet.Addr4) arp {
	return arp{op: arpRequest, senderMAC: otherMAC, senderIP: asker, targetIP: target}
}

func TestClaimProbesThenAnnounces(t *testing.T) {
	t.Parallel()
	c := claimed(one)
	got := c.run(0, 10*time.Second)
	probe, news := arp{op: arpRequest, senderMAC: gatewayMAC, targetIP: one}, announcement(one, gatewayMAC)
	ms := time.Millisecond
	want := []sent{
		{25 * ms, probe, everyone}, {100 * ms, probe, everyone}, {175 * ms, probe, everyone},
		{275 * ms, news, everyone}, {2275 * ms, news, everyone},
	}
	if !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	c.mustBe(t, one, held)
	if reply, ok, _ := c.hear(request(one), epoch); !ok || reply != replyTo(request(one), gatewayMAC) {
		t.Errorf("a request: answer %v, %+v", ok, reply)
	}
}

// A probe of another station for a held address is answered, so that the station does not use it.
func TestClaimDefendsAgainstProbes(t *testing.T) {
	t.Parallel()
	q := request(one)
	q.senderIP = packet.Addr4{}
	c := holding(one)
	if _, ok, _ := c.hear(q, epoch); !ok {
		t.Error("the probe is not answered")
	}
	c.mustBe(t, one, held)
}

func TestClaimConflicts(t *testing.T) {
	t.Parallel()
	reply := arp{op: arpReply, senderMAC: otherMAC, senderIP: one, targetMAC: gatewayMAC}
	news := announcement(one, otherMAC)
	rival := request(one)
	rival.senderIP = packet.Addr4{}
	own := announcement(one, gatewayMAC)
	crowd := announcement(one, everyone)
	for _, c := range []struct {
		name  string
		state claimState
		heard arp
		want  claimState
	}{
		{"reply to a probe", probing, reply, conflicting},
		{"request of the owner", probing, arp{op: arpRequest, senderMAC: otherMAC, senderIP: one, targetIP: two}, conflicting},
		{"probe of a rival", probing, rival, conflicting},
		{"announcement while it waits", waiting, news, conflicting},
		{"announcement while it is held", held, news, conflicting},
		{"reply while it is held", held, reply, conflicting},
		{"own packet that comes back", held, own, held},
		{"sender that is no station", held, crowd, held},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := claimed(one)
			for now := time.Duration(0); ; {
				if s, _, _ := l.state(one); s == c.state {
					break
				}
				_, _, _, wait := l.step(epoch.Add(now))
				now += wait
			}
			if _, ok, _ := l.hear(c.heard, epoch); ok {
				t.Error("answered")
			}
			l.mustBe(t, one, c.want)
			if _, ok, _ := l.hear(request(one), epoch); ok != (c.want == held) {
				t.Errorf("a request after the conflict: answer %v", ok)
			}
			if want := uint64(0); c.want == conflicting && l.conflicts() != 1 || c.want != conflicting && l.conflicts() != want {
				t.Errorf("%d conflicts are counted", l.conflicts())
			}
		})
	}
}

// An address of another station is probed again at intervals, and claimed when it is free. After ten conflicts it is
// probed once a minute.
func TestClaimTriesAgainAfterConflict(t *testing.T) {
	t.Parallel()
	c := claimed(one)
	owner := arp{op: arpReply, senderMAC: otherMAC, senderIP: one}
	now := time.Duration(0)
	for n := 1; n <= maxConflicts+1; n++ {
		probes := c.run(now, now+30*time.Millisecond)
		if len(probes) != 1 || probes[0].senderIP != (packet.Addr4{}) {
			t.Fatalf("try %d: sent %v, want a probe", n, probes)
		}
		now += 30 * time.Millisecond
		c.hear(owner, epoch.Add(now))
		wait := retryConflict
		if n >= maxConflicts {
			wait = rateLimit
		}
		if quiet := c.run(now, now+wait); len(quiet) != 0 {
			t.Fatalf("try %d: sent %v within %v of the conflict", n, quiet, wait)
		}
		now += wait
	}
	c.run(now, now+time.Second)
	c.mustBe(t, one, held)
}

// A request for an address in state waiting triggers the probe immediately, and is answered when the address turns
// out to be free.
func TestClaimProbesRequestedAddressFirst(t *testing.T) {
	t.Parallel()
	var addrs []packet.Addr4
	for n := range uint16(4096) {
		addrs = append(addrs, packet.Addr4{10, 0, byte(n >> 8), byte(n)})
	}
	c := claimed(addrs...)
	wanted := addrs[4000]
	c.run(0, 500*time.Millisecond)
	at := 500 * time.Millisecond
	if _, ok, hurry := c.hear(request(wanted), epoch.Add(at)); ok || !hurry {
		t.Errorf("answered %v, urgent %v, want a probe at once", ok, hurry)
	}
	var about []sent
	for _, s := range c.run(at, at+time.Second) {
		if s.targetIP == wanted || s.senderIP == wanted {
			about = append(about, s)
		}
	}
	if len(about) < 5 || about[2].senderIP != (packet.Addr4{}) || about[3].arp != replyTo(request(wanted), gatewayMAC) || about[3].to != otherMAC {
		t.Fatalf("sent %v, want three probes, the reply and an announcement", about)
	}
	if took := about[3].at - at; took > 600*time.Millisecond {
		t.Errorf("the reply came after %v", took)
	}
}

// Thousands of addresses are probed and announced at no more than a hundred packets a second.
func TestClaimsArePaced(t *testing.T) {
	t.Parallel()
	var addrs []packet.Addr4
	for n := range uint16(4096) {
		addrs = append(addrs, packet.Addr4{10, 0, byte(n >> 8), byte(n)})
	}
	c := claimed(addrs...)
	list := c.run(0, 4*time.Minute)
	if want := 4096 * (probeNum + announceNum); len(list) != want {
		t.Errorf("%d packets in four minutes, want %d", len(list), want)
	}
	for i := 100; i < len(list); i++ {
		if d := list[i].at - list[i-100].at; d < time.Second {
			t.Fatalf("101 packets within %v", d)
		}
	}
}

// Addresses in both sets are not probed again unless the link was down. With another MAC, they are announced.
func TestClaimSetKeepsState(t *testing.T) {
	t.Parallel()
	c := claimed(one)
	c.run(0, 10*time.Second)
	c.set([]packet.Addr4{one, two}, gatewayMAC, false)
	c.mustBe(t, one, held)
	c.mustBe(t, two, waiting)
	c.run(10*time.Second, 20*time.Second)
	c.set([]packet.Addr4{two}, gatewayMAC, false)
	if _, _, ok := c.state(one); ok {
		t.Error("a removed address still has a state")
	}
	c.mustBe(t, two, held)
	c.set([]packet.Addr4{two}, gatewayMAC, true)
	c.mustBe(t, two, waiting)
	c.run(20*time.Second, 30*time.Second)
	c.set([]packet.Addr4{two}, otherMAC, false)
	c.mustBe(t, two, held)
	list := c.run(30*time.Second, 40*time.Second)
	if want := announcement(two, otherMAC); len(list) != announceNum || list[0].arp != want || list[1].arp != want {
		t.Errorf("with another MAC, it sends %+v", list)
	}
}

// For any sequence of received packets and changed sets, an address is answered only after three unanswered probes,
// and the counters are consistent.
func TestClaimInvariants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := claimed()
		probes := map[packet.Addr4]int{}
		now := epoch
		address := func() packet.Addr4 { return packet.Addr4{192, 0, 2, rapid.ByteRange(1, 12).Draw(t, "address")} }
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "what") {
			case 0:
				set := map[packet.Addr4]bool{}
				for range rapid.IntRange(0, 12).Draw(t, "size") {
					set[address()] = true
				}
				var addrs []packet.Addr4
				for a := range set {
					addrs = append(addrs, a)
				}
				restart := rapid.Bool().Draw(t, "anew")
				for a := range probes {
					if restart || !set[a] {
						delete(probes, a)
					}
				}
				c.set(addrs, gatewayMAC, restart)
			case 1:
				q := arp{op: rapid.SampledFrom([]uint16{arpRequest, arpReply}).Draw(t, "op"), senderMAC: otherMAC, senderIP: address(), targetIP: address()}
				if rapid.Bool().Draw(t, "probe") {
					q.senderIP = packet.Addr4{}
				}
				delete(probes, q.senderIP)
				if reply, ok, _ := c.hear(q, now); ok && probes[reply.senderIP] < probeNum {
					t.Fatalf("answered for %v after %d probes", reply.senderIP, probes[reply.senderIP])
				}
			default:
				m, _, send, wait := c.step(now)
				switch {
				case send && m.senderIP == packet.Addr4{}:
					probes[m.targetIP]++
				case send && probes[m.senderIP] < probeNum:
					t.Fatalf("%v announced after %d probes", m.senderIP, probes[m.senderIP])
				}
				now = now.Add(min(wait, time.Second))
			}
			busy := 0
			for _, l := range c.all {
				if l.state == probing {
					busy++
				}
				if l.place >= 0 && c.due[l.place] != l {
					t.Fatal("a claim is not at its index in due")
				}
			}
			if busy != c.probing {
				t.Fatalf("%d addresses are being probed, probing is %d", busy, c.probing)
			}
		}
	})
}

// FuzzHear passes received frames to claims in every state.
func FuzzHear(f *testing.F) {
	for _, m := range []arp{request(one), announcement(one, otherMAC), {op: arpReply, senderMAC: otherMAC, senderIP: two}} {
		f.Add(m.frame(nil, everyone))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		q, ok := parseARP(b)
		if !ok {
			return
		}
		c := claimed(one, two)
		for i := range 60 {
			now := epoch.Add(time.Duration(i) * 20 * time.Millisecond)
			reply, answer, _ := c.hear(q, now)
			if s, _, known := c.state(reply.senderIP); answer && (!known || s != held || q.op != arpRequest) {
				t.Fatalf("%x is answered with %+v", b, reply)
			}
			c.step(now)
		}
	})
}

// FuzzParseHostAddress parses arbitrary address messages.
func FuzzParseHostAddress(f *testing.F) {
	message := append([]byte{2, 24, 0, 0, 1, 0, 0, 0}, binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, 8), 2)...)
	f.Add(append(message, 192, 0, 2, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := parseHostAddress(b); ok && !a.Is4() {
			t.Errorf("%x is read as %v", b, a)
		}
	})
}
