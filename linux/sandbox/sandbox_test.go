//go:build linux

package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// inside is set in a process of this test that enters the sandbox. It holds the folder of the test.
const inside = "SANDBOX_TEST_INSIDE"

// sysctl is a file in /proc that root may write.
const sysctl = "/proc/sys/net/ipv4/ip_local_reserved_ports"

// After Enter, every thread is left with what it needs and nothing else.
func TestEnter(t *testing.T) {
	if dir := os.Getenv(inside); dir != "" {
		enter(t, dir)
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("capabilities need root")
	}
	if _, err := ll.LandlockGetABIVersion(); err != nil {
		t.Fatalf("this kernel has no Landlock: %v", err)
	}
	dir := t.TempDir()
	for _, name := range []string{"read", "keep", "remove", "other"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "file"), []byte("text"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestEnter$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func enter(t *testing.T, dir string) {
	in := func(name string) string { return filepath.Join(dir, name) }
	version, err := Enter(Needs{
		Capabilities: []cap.Value{cap.NET_ADMIN, cap.NET_RAW},
		Files: Files{
			Read: []string{in("read"), in("missing")}, Write: []string{sysctl},
			Keep: []string{in("keep")}, Remove: []string{in("remove")},
		},
	})
	if err != nil || version == 0 {
		t.Fatalf("Enter: Landlock %d, %v", version, err)
	}
	s := Current()
	if slices.Sort(s.Capabilities); !slices.Equal(s.Capabilities, []string{"CAP_NET_ADMIN", "CAP_NET_RAW"}) || !s.NoNewPrivs || !s.Seccomp {
		t.Errorf("the state is %+v", s)
	}
	steps := []struct {
		name    string
		do      func() error
		allowed bool
	}{
		{"read a file to read", reads(in("read/file")), true},
		{"list a directory to read", func() error { _, err := os.ReadDir(in("read")); return err }, true},
		{"write a file to read", writes(in("read/file")), false},
		{"read another file", reads(in("other/file")), false},
		{"write another file", writes(in("other/file")), false},
		{"make another file", writes(in("other/new")), false},
		{"remove another file", func() error { return os.Remove(in("other/file")) }, false},
		{"replace a kept file", func() error {
			return errors.Join(writes(in("keep/new"))(), os.Rename(in("keep/new"), in("keep/file")))
		}, true},
		{"make and remove a kept directory", func() error {
			return errors.Join(os.MkdirAll(in("keep/a"), 0o755), os.Symlink("a", in("keep/b")), os.Remove(in("keep/b")), os.Remove(in("keep/a")))
		}, true},
		{"read a file to remove", reads(in("remove/file")), false},
		{"remove a file", func() error { return os.Remove(in("remove/file")) }, true},
		{"write the sysctl", writes(sysctl), true},
		{"write another sysctl", writes("/proc/sys/net/ipv4/ip_forward"), false},
		{"execute a program", exec.Command("/bin/true").Run, false},
	}
	for _, step := range steps {
		err := step.do()
		if step.allowed && err != nil || !step.allowed && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	checkThreads(t, reads(in("other/file")))
}

// checkThreads checks that threads old and new are refused.
func checkThreads(t *testing.T, do func() error) {
	const threads = 20
	var all sync.WaitGroup
	var together sync.WaitGroup
	together.Add(threads)
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			together.Done()
			together.Wait() // so that there are that many threads
			if err := do(); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("a thread: %v", err)
			}
		})
	}
	all.Wait()
}

func reads(path string) func() error {
	return func() error { _, err := os.ReadFile(path); return err }
}

func writes(path string) func() error {
	return func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) // like os.WriteFile
		if err != nil {
			return err
		}
		return f.Close()
	}
}

// The filter refuses forbidden calls, and all calls of another ABI, with EPERM.
func TestCallFilter(t *testing.T) {
	vm, err := bpf.NewVM(callFilter())
	if err != nil {
		t.Fatal(err)
	}
	native := map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64}[runtime.GOARCH]
	const allow, refuse = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO | int(unix.EPERM)
	tests := []struct {
		nr, arch uint32
		want     int
	}{
		{unix.SYS_READ, native, allow}, {unix.SYS_EXECVE, native, refuse}, {unix.SYS_PERSONALITY, native, refuse},
		{unix.SYS_BPF, native, allow}, {unix.SYS_READ, unix.AUDIT_ARCH_I386, refuse}, {unix.SYS_READ | 0x40000000, native, refuse},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d of %x", test.nr, test.arch), func(t *testing.T) {
			data := make([]byte, 64)
			for i := range 4 { // the VM reads big-endian
				data[i], data[4+i] = byte(test.nr>>(24-8*i)), byte(test.arch>>(24-8*i))
			}
			if got, err := vm.Run(data); err != nil || got != test.want {
				t.Errorf("%x, %v, want %x", got, err, test.want)
			}
		})
	}
}
