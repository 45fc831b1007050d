package control_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"nat64d/ops/control"
)

func TestListenCreatesAndCloseRemovesSocket(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	path := filepath.Join(dir, "s")
	l, err := control.Listen(path, "no-such-group-here")
	if err != nil {
		t.Fatal(err)
	}
	if l.Group() != "" {
		t.Errorf("group is %q", l.Group())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("Close left files behind: %v, %v", left, err)
	}
}

func TestListenGroup(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root may give a file to any group")
	}
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"), "daemon")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Group() != "daemon" {
		t.Errorf("group is %q", l.Group())
	}
}

func TestListenRefusesSocketInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := fmt.Sprintf("another nat64d (pid %d) listens on %s: ", os.Getpid(), path)
	if _, err := control.Listen(path, ""); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error is %v, want %s…", err, want)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, ""); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("without the lock file the error is %v, want %s…", err, want)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first daemon no longer listens: %v", err)
	} else {
		c.Close()
	}
}

func TestListenReplacesStaleSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(path, "")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenRefusesOtherFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, ""); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("error is %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("the file is gone")
	}
	if _, err := os.Stat(path + ".lock"); err == nil {
		t.Error("the lock file still exists")
	}
}

func TestListenPathTooLong(t *testing.T) {
	t.Parallel()
	if _, err := control.Listen("/tmp/"+strings.Repeat("x", 103), ""); err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("error is %v", err)
	}
}

// Many daemons start concurrently and repeatedly on a path with a stale socket. At most one of them listens at a
// time, and at least one succeeds.
func TestListenRace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	var listening, wins atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := control.Listen(path, "")
				if err != nil {
					if !strings.Contains(err.Error(), "another nat64d") {
						t.Error(err)
					}
					continue
				}
				wins.Add(1)
				if listening.Add(1) > 1 {
					t.Error("two daemons listen on one path")
				}
				listening.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if wins.Load() == 0 {
		t.Error("no daemon could listen")
	}
}
