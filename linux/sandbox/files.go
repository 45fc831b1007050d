//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Files are the parts of the file system that a program still needs. A directory stands for everything in it. Names that do not
// exist are ignored. A rule is for the file that has the name now: if another one replaces it, as editors do, only a rule for
// its directory permits that one.
type Files struct {
	Read    []string // may be read
	Write   []string // may be read, written and truncated
	Keep    []string // directories in which files, directories and symbolic links may also be made, renamed and removed
	Remove  []string // directories in which files may be removed
	Connect []string // unix sockets to connect and send to
}

// The access rights of Files.
const (
	readFile = ll.AccessFSReadFile
	readDir  = readFile | ll.AccessFSReadDir
	write    = readFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	keepDir  = readDir | write | ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSym | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
	remove   = ll.AccessFSRemoveFile
	connect  = ll.AccessFSResolveUnix
)

// restrict makes Landlock refuse everything else, and returns its version: 0 if the kernel has none. It also sets no_new_privs.
func (f *Files) restrict() (version int, err error) {
	version, err = ll.LandlockGetABIVersion()
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) { // not built in, or not in the list of security modules
		return 0, noNewPrivs()
	}
	rules, wrong := f.rules()
	if err = errors.Join(err, wrong); err == nil {
		// Only files: DNS64 connects to any address.
		err = landlock.V11.BestEffort().RestrictPaths(rules...)
	}
	if err != nil {
		return 0, errors.Join(fmt.Errorf("landlock: %w", err), noNewPrivs())
	}
	return version, nil
}

// rules returns the rules for Landlock.
func (f *Files) rules() (rules []landlock.Rule, err error) {
	add := func(access landlock.AccessFSSet, paths ...string) {
		rules = append(rules, landlock.PathAccess(access, paths...).IgnoreIfMissing())
	}
	for _, path := range f.Read {
		info, err := os.Stat(path)
		switch {
		case err != nil: // missing, or a folder that this user may not search: it cannot be read anyway
		case info.IsDir():
			add(readDir, path)
		default:
			add(readFile, path)
		}
	}
	for _, path := range f.Write {
		if err := pin(path); err != nil {
			return nil, err
		}
	}
	add(write, f.Write...)
	add(keepDir, f.Keep...)
	add(remove, f.Remove...)
	add(connect, f.Connect...)
	return rules, nil
}

// pin keeps a file open as long as the process runs. The kernel makes another inode for a file in /proc if it has forgotten the
// name, and no rule is for that one.
func pin(path string) error {
	_, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("open %s: %w", path, err)
	}
	return nil
}
