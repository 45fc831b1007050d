package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

const (
	servePort  = 9000 // the first TCP port, and the port of the UDP echo
	servePorts = 8    // several TCP ports, so that connections in TIME_WAIT do not exhaust them
	answerSize = 100
	backlog    = 4096
)

// serveOrder is empty, because serve has no options.
type serveOrder struct{}

// server answers a request on each TCP connection and closes it, and echoes UDP datagrams. It is a single thread with
// epoll(7), because its processor time reduces that of the client.
type server struct {
	epoll     int
	listeners map[int]bool
	echoes    map[int]bool // sockets on servePort and queryPort
	buffer    []byte
	answer    [answerSize]byte
}

// serve runs until it is killed.
func serve(serveOrder) (struct{}, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return struct{}{}, os.NewSyscallError("epoll_create1", err)
	}
	s := &server{epoll: epoll, listeners: make(map[int]bool), echoes: make(map[int]bool), buffer: make([]byte, 1<<16)}
	for i := range servePorts {
		fd, err := s.bind(unix.SOCK_STREAM, servePort+i)
		if err != nil {
			return struct{}{}, err
		}
		if err := unix.Listen(fd, backlog); err != nil {
			return struct{}{}, os.NewSyscallError("listen", err)
		}
		s.listeners[fd] = true
	}
	for _, port := range []int{servePort, queryPort} {
		fd, err := s.bind(unix.SOCK_DGRAM, port)
		if err != nil {
			return struct{}{}, err
		}
		s.echoes[fd] = true
	}
	return struct{}{}, s.run()
}

// bind creates a socket for both families and watches it.
func (s *server) bind(kind, port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0),
		unix.Bind(fd, &unix.SockaddrInet6{Port: port}),
		watch(s.epoll, unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN))
	return fd, err
}

func (s *server) run() error {
	for events := make([]unix.EpollEvent, 256); ; {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:max(0, n)] {
			switch fd := int(e.Fd); {
			case s.listeners[fd]:
				s.accept(fd)
			case s.echoes[fd]:
				s.reply(fd)
			default:
				s.answerOnce(fd)
			}
		}
	}
}

func (s *server) accept(listener int) {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // no more connections now
		}
		if watch(s.epoll, unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN) != nil {
			_ = unix.Close(fd) // the client counts a failure
		}
	}
}

func (s *server) reply(fd int) {
	for {
		n, from, err := unix.Recvfrom(fd, s.buffer, 0)
		if err != nil {
			return // no more datagrams now
		}
		_ = unix.Sendto(fd, s.buffer[:n], 0, from) // the client counts a lost reply
	}
}

// answerOnce answers a request and closes first, so that the server's port is in TIME_WAIT.
func (s *server) answerOnce(fd int) {
	n, err := unix.Read(fd, s.buffer)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if n > 0 {
		_, _ = unix.SendmsgN(fd, s.answer[:], nil, nil, unix.MSG_NOSIGNAL) // the client counts a failure
	}
	_ = unix.Close(fd)
}

// watch sets the events that epoll watches for on a descriptor.
func watch(epoll, operation, fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(epoll, operation, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
}
