package pool4

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nat64d/drop"
	"nat64d/packet"
)

// TestTrial does the same in a pool and in a trial of it: the results are the same, and until the pool changes itself, nothing in it
// has changed.
func TestTrial(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := New([16]byte{9})
		p.Configure(Config{
			HoldDown:    120 * time.Second,
			RestAtLeast: rapid.SampledFrom([]time.Duration{0, 2 * time.Second}).Draw(t, "rest"),
			BlockSize:   rapid.SampledFrom([]int{0, 16}).Draw(t, "block"),
			MaxHeld:     rapid.SampledFrom([]int{0, 3, 6}).Draw(t, "held at most"),
			Fields:      AllFields,
		})
		entries, _ := ParseRange("192.0.2.1-192.0.2.3", rapid.SampledFrom([]string{"1020-1027", "1024-1087"}).Draw(t, "ports"))
		if _, _, err := p.Add(entries); err != nil {
			t.Fatal(err)
		}
		var used []allocated
		now := time.Duration(0)
		t.Repeat(map[string]func(*rapid.T){
			"steps": func(t *rapid.T) {
				steps := drawSteps(t)
				before, trial := state(p, now), p.Trial()
				tried := take(trial, steps, append([]allocated(nil), used...))
				if after := state(p, now); after != before {
					t.Fatalf("a trial has changed\n%s\nto\n%s", before, after)
				}
				used = take(p, steps, used)
				if fmt.Sprint(used) != fmt.Sprint(tried) {
					t.Fatalf("in use are %v; in the trial %v", used, tried)
				}
				for proto := range packet.Protos {
					a, _ := p.InUse(proto)
					if b, _ := trial.InUse(proto); a != b {
						t.Fatalf("%d %v ports are in use; in the trial %d", a, proto, b)
					}
				}
			},
			"time": func(t *rapid.T) {
				now += time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second
				for p.Expire(now, 2) {
				}
			},
		})
	})
}

// allocated is a transport address in use, or a reason.
type allocated struct {
	proto packet.Proto
	at    packet.Endpoint4
	why   drop.Reason
}

// step is an allocation, or the end of a binding.
type step struct {
	q   Request
	end int // which binding ends; -1: none
}

func drawSteps(t *rapid.T) (steps []step) {
	for range rapid.IntRange(1, 4).Draw(t, "steps") {
		q := request(packet.Proto(rapid.IntRange(0, 2).Draw(t, "proto")), rapid.Uint32Range(0, 5).Draw(t, "client"), rapid.Uint16Range(1020, 1030).Draw(t, "port"))
		q.Owner = q.Client.Addr
		s := step{q: q, end: -1}
		if rapid.Bool().Draw(t, "end") {
			s.end = rapid.IntRange(0, 10).Draw(t, "which")
		}
		steps = append(steps, s)
	}
	return steps
}

func take(p *Pool, steps []step, used []allocated) []allocated {
	for _, s := range steps {
		if s.end >= 0 && s.end < len(used) {
			if u := used[s.end]; u.why == drop.None {
				p.Retire(u.proto, u.at)
			}
			used = append(used[:s.end], used[s.end+1:]...)
			continue
		}
		at, r := p.Allocate(s.q)
		used = append(used, allocated{s.q.Proto, at, r})
	}
	return used
}

// state describes all that a pool contains.
func state(p *Pool, now time.Duration) string {
	held, blocks := make([]HeldPort, 1000), make([]Block, 1000)
	n, _ := p.HeldPorts(0, held, now)
	k, _ := p.Blocks(0, blocks)
	next := ""
	for proto := range p.rows {
		for n := range uint32(4) {
			if r := p.rows[proto][0xc0000200+n]; r != nil {
				next += fmt.Sprint(r.next, r.inUse, r.held, " ")
			}
		}
	}
	return fmt.Sprint(p.Usage(), held[:n], blocks[:k], p.RestedShort(), next)
}
