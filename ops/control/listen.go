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

// maxSocketPath is the size of sun_path in sockaddr_un without the terminating zero.
const maxSocketPath = 107

// Listener is the listening control socket. While it is open, Listen on the same path fails.
type Listener struct {
	net.Listener
	path string
	gate gate
	lock *os.File
}

// Listen creates the control socket and, if necessary, its directory. Only root and the group, if it exists, may use
// the socket. Listen replaces a socket of a crashed daemon, but not one that a process listens on.
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
	l := &Listener{path: path, lock: lock, gate: gate{readers: noGroup, changers: noGroup}}
	if err := l.open(group); err != nil {
		l.release()
		return nil, err
	}
	return l, nil
}

// Group returns the name of the group that may use the socket, or "" if only root may.
func (l *Listener) Group() string { return l.gate.changersName }

// AllowReaders lets the members of another group connect, but not change anything. Then any user can connect, and Serve
// refuses requests by the credentials of the client. Call it before Serve.
func (l *Listener) AllowReaders(group string) error {
	gid, err := lookupGroup(group)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	l.gate.readers = gid
	if err := os.Chmod(l.path, 0o666); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// lookupGroup returns the number of a group. Without /etc/group, as in a container, there is none.
func lookupGroup(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if errors.Is(err, fs.ErrNotExist) {
		return noGroup, user.UnknownGroupError(name)
	}
	if err != nil {
		return noGroup, err
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return noGroup, fmt.Errorf("group %s has the identifier %q", name, g.Gid)
	}
	return uint32(gid), nil
}

// Close stops listening and removes the socket.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if removed := os.Remove(l.path); err == nil && !errors.Is(removed, fs.ErrNotExist) {
		err = removed
	}
	l.release()
	return err
}

// release unlocks and removes the lock file. It removes the file first, so that acquire cannot lock a file that is
// then removed.
func (l *Listener) release() {
	os.Remove(l.lock.Name())
	l.lock.Close()
}

// acquire creates and locks a file. The kernel releases the lock when the process ends for any reason. The socket
// itself cannot serve as lock: another daemon could start between the check that the socket is stale and its
// replacement.
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
		f.Close() // its previous owner removed it between our open and our lock
	}
}

// current reports whether the path of an open file still refers to it.
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
	// Clients cannot connect before listen, so the permissions are in place before the first connection.
	if err := l.permit(group); err != nil {
		return errors.Join(err, os.Remove(l.path))
	}
	if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
		return errors.Join(fmt.Errorf("control: listen on %s: %w", l.path, err), os.Remove(l.path))
	}
	l.Listener, err = net.FileListener(f)
	return err
}

// permit allows root and the group to use the socket, or only root if the group does not exist.
func (l *Listener) permit(group string) error {
	if err := os.Chmod(l.path, 0o660); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	gid, err := lookupGroup(group)
	var unknown user.UnknownGroupError
	switch {
	case errors.As(err, &unknown):
		return nil
	case err != nil:
		return fmt.Errorf("control: %w", err)
	}
	if err := os.Chown(l.path, -1, int(gid)); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	l.gate.changers, l.gate.changersName = gid, group
	return nil
}

// removeStale removes a socket that no process listens on.
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
		return fmt.Errorf("control: cannot determine whether a daemon listens: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

// inUse returns an error that names the process listening on the path.
func inUse(path string) error {
	who := "another nat64d"
	if pid := listenerPID(path); pid > 0 {
		who = fmt.Sprintf("another nat64d (pid %d)", pid)
	}
	return fmt.Errorf("%s listens on %s: stop it, or configure another socket", who, path)
}

// listenerPID returns the process that listens on the path, or 0. The kernel reports it to a client that connects,
// even if the daemon hangs.
func listenerPID(path string) int {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return 0
	}
	defer conn.Close()
	return peerOf(conn).pid
}
