//go:build linux

package daemon

import (
	"fmt"
	"sync"
	"time"
)

// shortageMatters is the time for which the status shows that pool4 had too few ports: our own choice.
const shortageMatters = time.Hour

// shortage remembers when ports of pool4 were last used again before their hold-down was over.
type shortage struct {
	mu   sync.Mutex
	seen uint64
	last time.Time
}

// look takes the number of such ports since the start. It returns a sentence for the log if there are new ones and there
// were none within shortageMatters.
func (s *shortage) look(n uint64, now time.Time) (first string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == s.seen {
		return ""
	}
	recent := s.recentLocked(now)
	s.seen, s.last = n, now
	if recent {
		return ""
	}
	return s.textLocked()
}

// warnings returns a sentence if it happened within shortageMatters.
func (s *shortage) warnings(now time.Time) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.recentLocked(now) {
		return nil
	}
	return []string{s.textLocked()}
}

// recentLocked reports whether it happened within shortageMatters. The caller holds s.mu.
func (s *shortage) recentLocked(now time.Time) bool {
	return !s.last.IsZero() && now.Sub(s.last) < shortageMatters
}

// textLocked returns the sentence. The caller holds s.mu.
func (s *shortage) textLocked() string {
	return fmt.Sprintf("pool4 has too few ports for UDP and pings: %d ports were used again before sessions.port_hold_down was over, last at %s; "+
		"add ports or addresses with nat64ctl pool4 add", s.seen, s.last.Format(time.DateTime))
}
