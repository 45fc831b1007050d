package web

import (
	"sync"
	"time"
)

// Sample is the use of pool4 and the tables at one moment.
type Sample struct {
	Time     int64  `json:"time"` // seconds since 1970
	Used     int    `json:"used"` // transport addresses of pool4 with a binding, of all protocols
	Ports    int    `json:"ports"`
	Sessions int    `json:"sessions"`
	Packets6 uint64 `json:"packets_6to4"` // since the start
	Packets4 uint64 `json:"packets_4to6"`
	Drops    uint64 `json:"drops"`
}

// samples is the number of samples of an hour.
const samples = int(time.Hour / sampleEvery)

// history is the samples of the last hour. Any goroutine may call its methods.
type history struct {
	mu   sync.Mutex
	ring []Sample // guarded by mu, oldest first from next on when it is full
	next int      // guarded by mu
}

// add takes a sample.
func (h *history) add(s Source, now time.Time) {
	st := s.Status()
	sample := Sample{Time: now.Unix(), Drops: st.Drops}
	for _, p := range st.Protocols {
		sample.Used += p.Pool4Used
		sample.Ports += p.Pool4Ports
		sample.Sessions += p.Sessions
	}
	for _, t := range st.Traffic {
		switch t.Direction {
		case "6to4":
			sample.Packets6 = t.Packets
		case "4to6":
			sample.Packets4 = t.Packets
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) < samples {
		h.ring = append(h.ring, sample)
		return
	}
	h.ring[h.next] = sample
	h.next = (h.next + 1) % samples
}

// all returns the samples, oldest first.
func (h *history) all() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(append([]Sample{}, h.ring[h.next:]...), h.ring[:h.next]...)
}
