package main

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	requestText   = "GET / HTTP/1.0\r\n\r\n"
	connectDrain  = time.Second // for connections that are still open at the end
	connectEvents = 256
	failuresAtAll = 1000 // without a success: give up
)

// connectOrder contains the server's address and the load.
type connectOrder struct {
	Destination netip.Addr
	AtOnce      int // number of concurrent connections
	Length      time.Duration
}

// connectResult counts the connections by result.
type connectResult struct{ Done, Failed int }

// connector opens short connections: it sends a request, reads the answer, and the server closes.
type connector struct {
	connectOrder
	connectResult

	epoll, opened int
	open          map[int]bool // the descriptors; true after the request was sent
	buffer        []byte
}

func connect(o connectOrder) (connectResult, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return connectResult{}, os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(epoll)
	c := &connector{connectOrder: o, epoll: epoll, open: make(map[int]bool), buffer: make([]byte, 4096)}
	err = c.run(time.Now().Add(o.Length))
	c.Failed += len(c.open)
	return c.connectResult, err
}

func (c *connector) run(end time.Time) error {
	drained := end.Add(connectDrain)
	for events := make([]unix.EpollEvent, connectEvents); ; {
		now := time.Now()
		if now.After(drained) || now.After(end) && len(c.open) == 0 {
			return nil
		}
		for now.Before(end) && len(c.open) < c.AtOnce {
			if err := c.dial(); err != nil {
				return err
			}
		}
		n, err := unix.EpollWait(c.epoll, events, 20)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, e := range events[:max(0, n)] {
			c.advance(int(e.Fd), e.Events)
		}
	}
}

func (c *connector) dial() error {
	family, to := c.address()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd) // was never open
		if c.Failed++; c.Failed > failuresAtAll && c.Done == 0 {
			return os.NewSyscallError("connect", err)
		}
		return nil
	}
	c.open[fd] = false
	return watch(c.epoll, unix.EPOLL_CTL_ADD, fd, unix.EPOLLOUT)
}

// address returns the server's ports in turn.
func (c *connector) address() (family int, to unix.Sockaddr) {
	port := servePort + c.opened%servePorts
	c.opened++
	return socketAddress(netip.AddrPortFrom(c.Destination, uint16(port)))
}

// socketAddress returns an address in the form of the kernel.
func socketAddress(a netip.AddrPort) (family int, to unix.Sockaddr) {
	if a.Addr().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func (c *connector) advance(fd int, events uint32) {
	broken := events&(unix.EPOLLERR|unix.EPOLLHUP) != 0
	if !c.open[fd] && !broken {
		c.open[fd] = true
		_, _ = unix.SendmsgN(fd, []byte(requestText), nil, nil, unix.MSG_NOSIGNAL) // a missing answer counts as failure
		if watch(c.epoll, unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN) == nil {
			return
		}
	}
	if n, err := unix.Read(fd, c.buffer); err == nil && n > 0 {
		c.Done++
	} else {
		c.Failed++
	}
	delete(c.open, fd)
	_ = unix.Close(fd) // already counted
}
