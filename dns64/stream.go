package dns64

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// streams bounds the TCP connections of clients, in total and per client. Beyond a bound it closes the connection that has been
// idle the longest (RFC 7766 section 6.2.3), of the client or address with the most connections, which therefore cannot keep
// others out. Its methods may be called by any number of goroutines.
type streams struct {
	mu   sync.Mutex
	open map[*stream]bool
}

// stream is a TCP connection of a client.
type stream struct {
	net.Conn
	addr   netip.Addr
	client netip.Prefix
	since  atomic.Int64 // start of the idle time, in nanoseconds since epoch
	busy   atomic.Int32 // queries under way
}

// peer returns the address of the client of a connection.
func peer(c net.Conn) netip.Addr {
	from, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	return from.Addr().Unmap().WithZone("")
}

// own reports whether a connection is one of the host to itself.
func own(c net.Conn) bool {
	at, ok := c.LocalAddr().(*net.TCPAddr)
	return ok && at.AddrPort().Addr().Unmap().WithZone("") == peer(c)
}

// add adds a connection, and closes another if there are too many.
func (s *streams) add(c net.Conn, bits int) *stream {
	st := &stream{Conn: c, addr: peer(c)}
	st.client = prefixOf(st.addr, bits)
	st.since.Store(sinceEpoch(time.Now()))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[*stream]bool{}
	}
	s.open[st] = true
	if v := s.victimLocked(st); v != nil {
		v.Close()
		delete(s.open, v)
	}
	return st
}

// victimLocked returns the connection to close for a new one, or nil if there is room. The caller holds s.mu.
func (s *streams) victimLocked(st *stream) (v *stream) {
	clients, addrs := map[netip.Prefix]int{}, map[netip.Addr]int{}
	for o := range s.open {
		clients[o.client]++
		addrs[o.addr]++
	}
	own := clients[st.client] > share(maxStreams)
	if !own && len(s.open) <= maxStreams {
		return nil
	}
	for o := range s.open {
		if o == st || own && o.client != st.client {
			continue
		}
		if v == nil || cmp.Or(cmp.Compare(clients[v.client], clients[o.client]), cmp.Compare(addrs[v.addr], addrs[o.addr])) < 0 ||
			clients[v.client] == clients[o.client] && addrs[v.addr] == addrs[o.addr] && o.idler(v) {
			v = o
		}
	}
	return v
}

// remove removes a connection.
func (s *streams) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, st)
}

// idler reports whether to close s rather than o: no query is under way on it, or its last query is older.
func (s *stream) idler(o *stream) bool {
	return cmp.Or(cmp.Compare(min(s.busy.Load(), 1), min(o.busy.Load(), 1)), cmp.Compare(s.since.Load(), o.since.Load())) < 0
}
