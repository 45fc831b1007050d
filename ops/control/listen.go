package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what sockaddr_un holds beside its closing zero.
const maxSocketPath = 107

// Listener is the daemon's end of the control socket. While it is open no other Listen on the same path succeeds.
type Listener struct {
	net.Listener
	path  string
	group string
	lock  *os.File
}

// Listen makes the control socket, and its folder if need be. The socket belongs to the group, when there is such a
// group, and only root and that group may use it. One that a crashed daemon left behind is replaced; one that
// somebody answers on is not.
func Listen(path, group string) (*Listener, error) {
	if path == "" || len(path) > maxSocketPath {
		return nil, fmt.Errorf("control: the socket's path %q must have 1 to %d bytes", path, maxSocketPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	lock, err := acquire(path + ".lock")
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, inUse(path)
	}
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	l := &Listener{path: path, lock: lock}
	if err := l.open(group); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// Group returns the name of the group that may use the socket, or nothing when only root may.
func (l *Listener) Group() string { return l.group }

// Close stops listening and removes the socket.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if removed := os.Remove(l.path); err == nil && !errors.Is(removed, fs.ErrNotExist) {
		err = removed
	}
	l.release()
	return err
}

// release gives up the lock. Its file goes while the lock is still held, so that acquire cannot lock a file that is
// about to vanish without noticing.
func (l *Listener) release() {
	os.Remove(l.lock.Name())
	l.lock.Close()
}

// acquire makes and locks a file. The kernel drops the lock when the process ends, however it ends; the socket itself
// cannot serve, since between the check that it is stale and its replacement another daemon could have begun.
func acquire(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		if current(f) {
			return f, nil
		}
		f.Close() // its former owner removed it between our open and our lock
	}
}

// current reports whether the path of an open file still leads to it.
func current(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(f.Name())
	return err == nil && os.SameFile(opened, named)
}

func (l *Listener) open(group string) error {
	if err := removeStale(l.path); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("control: socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), l.path)
	defer f.Close() // net.FileListener duplicates it
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: l.path}); err != nil {
		return fmt.Errorf("control: bind %s: %w", l.path, err)
	}
	// Nobody can connect before listen, so the socket never has other rights than these.
	if err := l.permit(group); err != nil {
		return errors.Join(err, os.Remove(l.path))
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return errors.Join(fmt.Errorf("control: listen on %s: %w", l.path, err), os.Remove(l.path))
	}
	l.Listener, err = net.FileListener(f)
	return err
}

// permit lets root and the group use the socket, or root alone when there is no such group.
func (l *Listener) permit(group string) error {
	if err := os.Chmod(l.path, 0o660); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return fmt.Errorf("control: group %s has the identifier %q", group, g.Gid)
	}
	if err := os.Chown(l.path, -1, gid); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	l.group = group
	return nil
}

// removeStale removes a socket that nobody answers on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control: %s exists and is not a socket: remove it or choose another path", path)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return inUse(path)
	} else if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("control: cannot tell whether a daemon listens: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// inUse says who listens on the path.
func inUse(path string) error {
	who := "another nat64d"
	if pid := listenerPID(path); pid > 0 {
		who = fmt.Sprintf("another nat64d (pid %d)", pid)
	}
	return fmt.Errorf("%s listens on %s: stop it, or give this one another socket", who, path)
}

// listenerPID returns the process that listens on the path, or 0. The kernel tells it to whoever connects, so that it
// is known even of a daemon that hangs.
func listenerPID(path string) int {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	return peerPID(conn)
}
