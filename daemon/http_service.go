//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/ops/control"
)

// Our own choices: the connections to an address at a time, the longest headers of a request, and how long a client may take for
// its request, an answer may take, a connection may be idle, and the end waits for answers.
const (
	maxHTTPConnections = 64
	maxHTTPHeader      = 8 << 10
	httpRead           = 5 * time.Second
	httpWrite          = 30 * time.Second
	httpIdle           = 2 * time.Minute
	httpGrace          = 500 * time.Millisecond
)

// httpService answers HTTP requests where the configuration says. It opens its sockets again when that changes, and retries those
// that it cannot open: packets are translated anyway. It is safe for concurrent use.
type httpService struct {
	key     string // of the configuration, for messages
	handler http.Handler
	where   func() config.Listen
	group   func() string // may use a unix socket
	log     *slog.Logger
	panics  *gateway.Panics
	changed event

	mu    sync.Mutex
	doors []*door
}

// door is an address or a path that a service listens on.
type door struct {
	network, address string
	group            string

	mu       sync.Mutex
	listener net.Listener // nil: not open
	err      error        // why it is not open
}

// open opens the sockets, and has run retry those that cannot be opened. A process with a sandbox can open a unix socket only before
// it enters that.
func (s *httpService) open() {
	l := s.where()
	var doors []*door
	for _, a := range l.Addrs {
		doors = append(doors, &door{network: "tcp", address: a.String()})
	}
	if l.Path != "" {
		doors = append(doors, &door{network: "unix", address: l.Path, group: s.group()})
	}
	for _, d := range doors {
		_, _ = d.open()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doors = doors
}

// follow applies a change of the configuration.
func (s *httpService) follow() { s.changed.signal() }

func (s *httpService) current() []*door {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doors
}

// close closes the sockets of a service that does not run.
func (s *httpService) close() {
	for _, d := range s.current() {
		d.fail(net.ErrClosed)
	}
}

// run answers requests until ctx is done.
func (s *httpService) run(ctx context.Context) error {
	for at := s.where(); ; at = s.where() {
		if err := s.round(ctx, at); err != nil || ctx.Err() != nil {
			return err
		}
		s.close()
		s.open()
	}
}

// round answers requests until ctx is done or the service is configured to listen elsewhere.
func (s *httpService) round(ctx context.Context, at config.Listen) error {
	round, stop := context.WithCancel(ctx)
	defer stop()
	tasks := []task{{name: "changes of " + s.key, run: func(ctx context.Context) error {
		for s.where().String() == at.String() {
			select {
			case <-ctx.Done():
				return nil
			case <-s.changed:
			}
		}
		stop()
		return nil
	}}}
	for _, d := range s.current() {
		tasks = append(tasks, task{name: s.key + " on " + d.address, run: func(ctx context.Context) error { s.serve(ctx, d); return nil }})
	}
	return runTasks(round, tasks, s.panics)
}

// serve answers requests at a door until ctx is done. It logs a failure once, and retries.
func (s *httpService) serve(ctx context.Context, d *door) {
	again := false
	for ctx.Err() == nil {
		l, err := d.state()
		if l == nil && again {
			l, err = d.open()
		}
		if l != nil {
			s.log.Info("answering requests", "for", s.key, "listen", d.address)
			if err = s.answer(ctx, l); ctx.Err() != nil {
				d.fail(net.ErrClosed)
				return
			}
			d.fail(err)
			again = false
		}
		if !again {
			s.log.Warn("cannot listen, retrying", "for", s.key, "listen", d.address, "every", listenAgain, "error", err)
		}
		again = true
		select {
		case <-ctx.Done():
		case <-time.After(listenAgain):
		}
	}
}

// answer serves the connections of a listener until ctx is done, or returns why it cannot.
func (s *httpService) answer(ctx context.Context, l net.Listener) error {
	few, state := control.Bounded(l, maxHTTPConnections)
	server := &http.Server{
		Handler: s.handler, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), MaxHeaderBytes: maxHTTPHeader,
		ReadTimeout: httpRead, WriteTimeout: httpWrite, IdleTimeout: httpIdle, ConnState: state,
	}
	ended := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, done := context.WithTimeout(context.Background(), httpGrace)
		defer done()
		_ = server.Shutdown(grace) // Close ends what is still open
		_ = server.Close()
	})
	err := server.Serve(few)
	if !cancel() {
		<-ended
	}
	return err
}

// warnings returns where the service cannot listen, a sentence each.
func (s *httpService) warnings() (ws []string) {
	for _, d := range s.current() {
		if l, err := d.state(); l == nil && err != nil && !errors.Is(err, net.ErrClosed) {
			ws = append(ws, fmt.Sprintf("%s: nat64d does not listen on %s, and tries again every %v: %v", s.key, d.address, listenAgain, err))
		}
	}
	return ws
}

func (d *door) state() (net.Listener, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listener, d.err
}

// open opens the socket.
func (d *door) open() (net.Listener, error) {
	l, err := d.listen()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listener, d.err = l, err
	return l, err
}

func (d *door) listen() (net.Listener, error) {
	if d.network == "unix" {
		l, err := control.Listen(d.address, d.group)
		switch {
		case errors.Is(err, fs.ErrPermission):
			return nil, fmt.Errorf("%w: with host.sandbox, nat64d can only open it when it starts", err)
		case err != nil:
			return nil, err // not a *control.Listener that is nil
		}
		return l, nil
	}
	l, err := net.Listen("tcp", d.address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%w: another program has the port, which ss -ltnp shows", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("%w: no interface of this machine has the address", err)
	}
	return l, err
}

// fail closes the socket and records the reason.
func (d *door) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.listener != nil {
		d.listener.Close()
	}
	d.listener, d.err = nil, err
}
