//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"nat64d/dns64"
	"nat64d/ops/control"
)

// listenAgain is the interval between attempts to listen on an address.
const listenAgain = 2 * time.Second

// listener is an address of dns64.listen. Packets are translated even if it cannot be opened.
type listener struct {
	addr netip.AddrPort
	tls  *certificate // nil: UDP and TCP

	mu     sync.Mutex
	server *dns64.Server // nil: not open
	err    error         // why it is not open
}

// open opens the sockets.
func (l *listener) open(f *dns64.Forwarder) (*dns64.Server, error) {
	s, err := l.listen(f)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: another resolver may use it; see dns64.listen", err)
	}
	if errors.Is(err, syscall.EACCES) {
		err = fmt.Errorf("%w: a port below 1024 takes CAP_NET_BIND_SERVICE", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server, l.err = s, err
	return s, err
}

// listen opens the sockets. A listener for TLS first needs its certificate.
func (l *listener) listen(f *dns64.Forwarder) (*dns64.Server, error) {
	if l.tls == nil {
		return dns64.Listen(f, []netip.AddrPort{l.addr})
	}
	if err := l.tls.load(); err != nil {
		return nil, err
	}
	return dns64.ListenTLS(f, l.addr, l.tls.config())
}

// fail closes the sockets and records the reason.
func (l *listener) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server != nil {
		l.server.Close()
	}
	l.server, l.err = nil, err
}

func (l *listener) state() (*dns64.Server, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server, l.err
}

// serve answers on an address until ctx is done. It logs a failure once, and retries.
func (n *dns64Service) serve(ctx context.Context, l *listener) {
	again := false
	for ctx.Err() == nil {
		s, err := l.state()
		if s == nil && again {
			s, err = l.open(n.f)
		}
		if s != nil {
			n.log.Info("DNS64 answers", "listen", s.Addrs(), "tls", l.tls != nil, "clients", n.f.Config().Clients)
			if err = s.Run(ctx); ctx.Err() != nil {
				return
			}
			l.fail(err)
			again = false
		}
		if !again {
			n.log.Warn("DNS64 cannot listen, retrying", "listen", l.addr, "every", listenAgain, "error", err)
		}
		again = true
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

// listening returns the addresses that are open, and those that are not.
func (n *dns64Service) listening() (open, overTLS []netip.AddrPort, closed []control.DNS64Closed) {
	for _, l := range n.listeners {
		if s, err := l.state(); s != nil && l.tls != nil {
			overTLS = append(overTLS, s.Addrs()...)
		} else if s != nil {
			open = append(open, s.Addrs()...)
		} else if err != nil {
			closed = append(closed, control.DNS64Closed{Address: l.addr, Error: err.Error()})
		}
	}
	return open, overTLS, closed
}
