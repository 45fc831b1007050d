package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// programs are the binaries under test.
type programs struct{ nat64d, nat64ctl string }

// scratch is a directory that lives as long as the test binary.
var scratch string

// build builds the binaries once, with the release flags, unless NAT64D_BIN names a directory that contains them.
var build = sync.OnceValues(func() (programs, error) {
	dir := os.Getenv("NAT64D_BIN")
	if dir == "" {
		dir = scratch
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/nat64d", "./cmd/nat64ctl")
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return programs{}, fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	return programs{filepath.Join(dir, "nat64d"), filepath.Join(dir, "nat64ctl")}, nil
})

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "nat64d-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	scratch = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// binaries returns the programs under test. It skips the test without root.
func binaries(t *testing.T) programs {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces and packet sockets need root")
	}
	p, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// tool returns a command of a program that the tests need: installed, or unpacked by make deps below NAT64D_CACHE
// (default: .cache of this tree). As root, a missing program fails the test, because a skipped test would hide it.
func tool(t *testing.T, name string) (path string, env []string) {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path, os.Environ()
	}
	sys := filepath.Join(cache(t), "sys")
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin", sys + "/usr/bin", sys + "/usr/sbin"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		libraries, _ := filepath.Glob(sys + "/usr/lib/*-linux-gnu*") // the pattern is well-formed
		env := os.Environ()
		for _, l := range libraries {
			env = append(env, "LD_LIBRARY_PATH="+l)
		}
		return path, env
	}
	t.Fatalf("%s is neither installed nor below %s: run make deps", name, sys)
	return "", nil
}

// cache returns where make deps has unpacked programs.
func cache(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("NAT64D_CACHE")
	if dir == "" {
		dir = "../.cache"
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
