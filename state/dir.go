//go:build linux

// Package state keeps the tables of a gateway in files of a tmpfs while packets change them, so that the next process
// finds them after a restart, an upgrade or a crash. The tables write the files by the stores that packets make anyway:
// there is no journal and no system call.
//
// A state directory holds one folder for each process, and the link "current" to the folder that is valid:
//
//	current -> 7
//	7/header          what the files mean
//	7/alive           when the process was last alive, in nanoseconds of the monotonic clock
//	7/bindings, 7/bindings.seals, 7/sessions, 7/sessions.seals, 7/windows, 7/held
//
// The next process reads folder 7, makes folder 8, and then makes 8 current, so that a crash in between loses nothing.
package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is a state directory that this process has locked, and its folder there. Its methods are safe for concurrent use.
type Dir struct {
	path string
	lock *os.File

	mu     sync.Mutex
	header Header
	folder string // of this process; empty before Begin
	files  []*os.File
	alive  *os.File
}

const current = "current"

// Open makes a state directory if there is none, and locks it. Its error says what would be right.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	if err := usable(path); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another nat64d uses %s: set state.dir to a directory of its own for each", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &Dir{path: path, lock: lock}, nil
}

// usable returns an error unless a directory is on a tmpfs and belongs to this user alone.
func usable(path string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", path, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("%s is not on a tmpfs: on another file system, write-back would delay packets. Mount a tmpfs there, or set state.dir to a directory on one", path)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("lstat %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s must be a directory that belongs to the user of nat64d, and that no other user can write to", path)
	}
	return nil
}

// Begin makes the folder of this process. Saved is what the folder of an earlier process has left; the caller restores
// it into tables whose Files are d, and calls Commit.
func (d *Dir) Begin(h Header) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.cleanLocked(d.current()); err != nil {
		return err
	}
	last, _ := strconv.Atoi(d.current())
	folder := strconv.Itoa(last + 1)
	if err := os.Mkdir(filepath.Join(d.path, folder), 0o700); err != nil {
		return err
	}
	d.folder, d.header = folder, h
	d.header.Layout, d.header.Sizes = Layout, sizes
	d.header.Boot, d.header.Namespace = bootID(), namespace()
	if err := d.openAliveLocked(); err != nil {
		return err
	}
	return d.writeHeaderLocked()
}

// current returns the name of the valid folder, or "".
func (d *Dir) current() string {
	name, err := os.Readlink(filepath.Join(d.path, current))
	if err != nil || filepath.Base(name) != name {
		return ""
	}
	return name
}

// cleanLocked removes all folders except one. The caller holds d.mu.
func (d *Dir) cleanLocked(except string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil && e.Name() != except {
			if err := os.RemoveAll(filepath.Join(d.path, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Commit makes the folder of this process the valid one, and removes the others.
func (d *Dir) Commit() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	link := filepath.Join(d.path, current)
	_ = os.RemoveAll(link + ".new")
	if d.current() == "" {
		_ = os.RemoveAll(link) // no link, whatever it is
	}
	if err := os.Symlink(d.folder, link+".new"); err != nil {
		return err
	}
	if err := os.Rename(link+".new", link); err != nil {
		return err
	}
	return d.cleanLocked(d.folder)
}

// Discard removes what earlier processes have left.
func (d *Dir) Discard() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.cleanLocked(""), os.RemoveAll(filepath.Join(d.path, current)))
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Update replaces the changeable parts of the header, as f changes them.
func (d *Dir) Update(f func(*Header)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.header)
	return d.writeHeaderLocked()
}

// writeHeaderLocked replaces the header file. The caller holds d.mu.
func (d *Dir) writeHeaderLocked() error {
	b, err := d.header.encode()
	if err != nil {
		return err
	}
	path := filepath.Join(d.path, d.folder, "header")
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// File implements table.Files.
func (d *Dir) File(name string, _ int) (fd int, ok bool) {
	f, err := d.create(name)
	if err != nil {
		return 0, false
	}
	return int(f.Fd()), true
}

// create makes a file in the folder, and replaces an older one with the name.
func (d *Dir) create(name string) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.createLocked(name)
}

// createLocked is create. The caller holds d.mu.
func (d *Dir) createLocked(name string) (*os.File, error) {
	path := filepath.Join(d.path, d.folder, name)
	if err := ignoreMissing(os.Remove(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		d.files = append(d.files, f)
	}
	return f, err
}

const aliveLen = 8

// openAliveLocked makes the file of the sign of life. The caller holds d.mu.
func (d *Dir) openAliveLocked() (err error) {
	if d.alive, err = d.createLocked(alive); err != nil {
		return err
	}
	if err := unix.Fallocate(int(d.alive.Fd()), 0, 0, aliveLen); err != nil {
		return fmt.Errorf("no room in %s: %w", d.path, err)
	}
	d.Alive()
	return nil
}

// Alive notes that the process is alive, after Begin. Its owner calls it about once a second.
func (d *Dir) Alive() {
	_, _ = d.alive.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(Monotonic())), 0) // the file has room
}

// Close gives the lock back. The files stay, and so do the mappings of tables.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		_ = f.Close()
	}
	return d.lock.Close()
}

// Monotonic returns the system's monotonic clock, which no adjustment sets and which begins at the boot.
func Monotonic() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with this clock
	return time.Duration(ts.Nano())
}

// bootID returns the random number of the running boot.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(b)
}

// namespace returns a number of the network namespace that no other namespace of this boot has, before Linux 5.14 that of
// its inode.
func namespace() uint64 {
	if fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
		defer unix.Close(fd)
		if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err == nil {
			return cookie
		}
	}
	var st unix.Stat_t
	_ = unix.Stat("/proc/thread-self/ns/net", &st)
	return st.Ino
}
