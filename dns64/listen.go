package dns64

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	receiveBuffer = 4 << 20          // bytes that the kernel queues per socket
	maxStreams    = 256              // TCP connections at once
	streamIdle    = 10 * time.Second // between queries (RFC 7766 section 6.2.3)
	handshakeTime = 5 * time.Second  // bound of a TLS handshake
	maxQuery      = 4096             // bytes of the longest query over UDP
)

// readers is the number of sockets per address. The kernel distributes queries among them.
func readers() int { return min(runtime.NumCPU(), 4) }

// open opens the sockets for one address.
func (s *Server) open(a netip.AddrPort) error {
	if err := s.openStream(a); err != nil { // first: TCP cannot be shared, so this fails if another server uses the address
		return err
	}
	if a.Port() == 0 {
		a = netip.AddrPortFrom(a.Addr(), s.streams[len(s.streams)-1].Addr().(*net.TCPAddr).AddrPort().Port())
	}
	for range readers() {
		lc := net.ListenConfig{Control: prepare}
		c, err := lc.ListenPacket(context.Background(), "udp"+family(a), a.String())
		if err != nil {
			return err
		}
		u := c.(*net.UDPConn)
		_ = u.SetReadBuffer(receiveBuffer) // the server also works with a smaller one
		s.packets = append(s.packets, u)
	}
	return nil
}

// openStream opens a TCP socket.
func (s *Server) openStream(a netip.AddrPort) error {
	l, err := net.Listen("tcp"+family(a), a.String())
	if err != nil {
		return err
	}
	s.streams = append(s.streams, l)
	return nil
}

// family returns the suffix of a network; [::] stands for both families.
func family(a netip.AddrPort) string {
	if a.Addr().Is4() {
		return "4"
	}
	return ""
}

// prepare lets sockets share an address and enables control messages with the destination address of a query, which becomes
// the source of the answer.
func prepare(network, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if network == "udp4" {
			failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
		} else {
			failed = errors.Join(failed, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}
	})
	return errors.Join(err, failed)
}

// Addrs returns the addresses of the listeners.
func (s *Server) Addrs() (list []netip.AddrPort) {
	for _, l := range s.streams {
		list = append(list, l.Addr().(*net.TCPAddr).AddrPort())
	}
	return list
}

// Run answers queries until ctx is done. Then it closes the sockets and waits for the queries under way.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	for _, c := range s.packets {
		group.Go(func() (err error) {
			defer s.f.caught(&err)
			return s.receive(ctx, c)
		})
	}
	for _, l := range s.streams {
		group.Go(func() (err error) {
			defer s.f.caught(&err)
			return s.accept(ctx, l)
		})
	}
	return group.Wait()
}

// receive answers the queries from a UDP socket.
func (s *Server) receive(ctx context.Context, c *net.UDPConn) error {
	var jobs sync.WaitGroup
	defer jobs.Wait()
	b, out, oob := make([]byte, maxQuery), make([]byte, 0, maxCached), make([]byte, 128)
	for {
		n, oobn, _, from, err := c.ReadMsgUDPAddrPort(b, oob)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			continue // an ICMP error for an earlier answer, or a temporary lack of memory
		}
		who := client{addr: from.Addr().Unmap().WithZone("")}
		who.own = who.addr == destination(oob[:oobn])
		answer, j, o := s.guarded(out[:0], b[:n], &who)
		info := source(oob[:oobn])
		var at *place
		if o == pending {
			if at = s.f.acquire(ctx, j.s, who.addr); at == nil {
				answer, o = j.fail(answer, b[:n], &who)
			}
		}
		switch o {
		case pending:
			packet, info := slices.Clone(b[:n]), slices.Clone(info)
			jobs.Go(func() {
				defer at.release()
				if answer, o := j.run(at, nil, packet, &who); o == answered {
					_, _, _ = c.WriteMsgUDPAddrPort(answer, info, from) // a client that does not get it asks again
				}
			})
		case answered:
			_, _, _ = c.WriteMsgUDPAddrPort(answer, info, from)
		}
	}
}

// guarded calls Forwarder.answer and recovers from a panic, which then fails only one query.
func (s *Server) guarded(dst, packet []byte, who *client) (answer []byte, j *job, o outcome) {
	defer func() {
		if recover() != nil {
			s.f.Stats.add(panics)
			answer, j, o = dst, nil, silent
		}
	}()
	return s.f.answer(dst, packet, who, time.Now())
}

// destination returns the destination address of a query from its control message. The kernel gives a query of the host itself to one
// of its addresses the same source, and a forged one with this source makes it answer only itself.
func destination(oob []byte) netip.Addr {
	const header = unix.SizeofCmsghdr
	switch len(oob) {
	case unix.CmsgSpace(unix.SizeofInet4Pktinfo):
		return netip.AddrFrom4([4]byte(oob[header+8:])) // after the interface and the address that answers
	case unix.CmsgSpace(unix.SizeofInet6Pktinfo):
		return netip.AddrFrom16([16]byte(oob[header:])).Unmap()
	}
	return netip.Addr{}
}

// source turns the control message of a query into the one for its answer, whose source is the query's destination. It clears
// the interface unless the address is link-local, so that routes select it.
func source(oob []byte) []byte {
	const header, index4, len4, index6, len6 = unix.SizeofCmsghdr, 0, unix.SizeofInet4Pktinfo, 16, unix.SizeofInet6Pktinfo
	switch len(oob) {
	case unix.CmsgSpace(len4):
		clear(oob[header+index4 : header+index4+4])
	case unix.CmsgSpace(len6):
		if a := netip.AddrFrom16([16]byte(oob[header:])); !a.IsLinkLocalUnicast() {
			clear(oob[header+index6 : header+index6+4])
		}
	}
	return oob
}

// accept accepts TCP connections.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	var served sync.WaitGroup
	defer served.Wait()
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			time.Sleep(10 * time.Millisecond) // probably too many open files, which is temporary
			continue
		}
		if s.tls != nil && !s.admits(c) {
			c.Close()
			continue
		}
		st := s.f.open.add(c, s.f.state.Load().Bits)
		served.Go(func() {
			defer s.f.open.remove(st)
			var err error // a panic ends this connection only
			defer s.f.caught(&err)
			s.converse(ctx, st)
		})
	}
}

// admits reports whether the client of a connection is served. A TCP connection of another client gets an answer, REFUSED; a TLS
// connection would first cost a handshake, so it is closed.
func (s *Server) admits(c net.Conn) bool {
	if own(c) || s.f.state.Load().serves(peer(c)) {
		return true
	}
	s.f.Stats.add(denied)
	return false
}

// secure returns the stream for the messages of a connection: the connection itself or, after the handshake, TLS.
func (s *Server) secure(ctx context.Context, c *stream) (net.Conn, error) {
	if s.tls == nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	t := tls.Server(c, s.tls)
	return t, t.HandshakeContext(ctx)
}

// converse answers the queries from a TCP connection. It sends answers in the order in which they are ready (RFC 7766 section
// 6.2.1.1).
func (s *Server) converse(ctx context.Context, c *stream) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	messages, err := s.secure(ctx, c)
	if err != nil {
		return
	}
	defer messages.Close()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	var writing sync.Mutex
	write := func(b []byte) {
		writing.Lock()
		defer writing.Unlock()
		binary.BigEndian.PutUint16(b, uint16(len(b)-2))
		_ = messages.SetWriteDeadline(time.Now().Add(streamIdle))
		if _, err := messages.Write(b); err != nil {
			c.Close() // the client could no longer parse the stream
		}
	}
	who := client{addr: peer(c), own: own(c.Conn), stream: true, limit: 65535}
	for {
		c.since.Store(sinceEpoch(time.Now()))
		_ = messages.SetReadDeadline(time.Now().Add(streamIdle))
		packet, err := readStream(messages)
		if err != nil {
			return
		}
		answer, j, o := s.guarded(make([]byte, 2, 512), packet, &who)
		var at *place
		if o == pending {
			if at = s.f.acquire(ctx, j.s, who.addr); at == nil {
				answer, o = j.fail(answer, packet, &who)
			}
		}
		switch o {
		case pending:
			c.busy.Add(1)
			jobs.Go(func() {
				defer at.release()
				defer c.busy.Add(-1)
				if answer, o := j.run(at, make([]byte, 2), packet, &who); o == answered {
					write(answer)
				}
			})
		case answered:
			write(answer)
		default:
			return // not DNS
		}
	}
}
