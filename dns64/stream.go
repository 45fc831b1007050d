package dns64

import (
	"cmp"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// streams are the TCP connections of clients, maxStreams at most. When there is one more, the one that has been idle for the
// longest time makes way (RFC 7766 section 6.2.3): whoever opens many must not keep others out. Its methods may be called by
// any number of goroutines.
type streams struct {
	mu   sync.Mutex
	open map[*stream]bool
}

// stream is a TCP connection of a client.
type stream struct {
	net.Conn
	since atomic.Int64 // the next query is waited for, in nanoseconds since 1970
	busy  atomic.Int32 // queries without an answer yet
}

// add counts a connection, and closes another if there are too many.
func (s *streams) add(c net.Conn) *stream {
	st := &stream{Conn: c}
	st.since.Store(time.Now().UnixNano())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*stream]bool{}
	}
	if len(s.open) == maxStreams {
		idlest := st
		for o := range s.open {
			if idlest == st || o.idler(idlest) {
				idlest = o
			}
		}
		idlest.Close()
		delete(s.open, idlest)
	}
	s.open[st] = true
	return st
}

// remove counts a connection no more.
func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
}

// idler says whether s is better closed than o: nobody waits for an answer there, or less has come of late.
func (s *stream) idler(o *stream) bool {
	return cmp.Or(cmp.Compare(min(s.busy.Load(), 1), min(o.busy.Load(), 1)), cmp.Compare(s.since.Load(), o.since.Load())) < 0
}
