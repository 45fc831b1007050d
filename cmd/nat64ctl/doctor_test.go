package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestDoctorOutput(t *testing.T) {
	t.Parallel()
	const offloads = "receive offload (GRO) is off on ens5"
	for _, tt := range []struct {
		socket, args, want string
		code               int
	}{
		{full, "doctor", "SEVERITY  CHECK     FINDING AND COMMAND\nwarning   offloads  " + offloads + "\n                      ethtool -K ens5 gro on\n", 0},
		{full, "doctor --all --no-headers", "ok       interface  both interfaces are up\nwarning  offloads   " + offloads + "\n                      ethtool -K ens5 gro on\n", 0},
		{full, "doctor -o json", "[\n {\"severity\":\"warning\",\"check\":\"offloads\",\"reason\":\"" + offloads + "\",\"command\":\"ethtool -K ens5 gro on\"}\n]\n", 0},
		{full, "doctor -o csv --probe 198.51.100.7", "severity,check,reason,command\nwarning,offloads," + offloads + ",ethtool -K ens5 gro on\n" +
			"error,probe,no answer from 198.51.100.7,ip route get 198.51.100.7\n", 1},
		{empty, "doctor", "no problem found\n", 0},
		{empty, "doctor -o json", "[]\n", 0},
	} {
		out, errs, code := call(t, tt.socket, strings.Fields(tt.args)...)
		if out != tt.want || errs != "" || code != tt.code {
			t.Errorf("%s: exit code %d, %q, %q, want %d and %q", tt.args, code, out, errs, tt.code, tt.want)
		}
	}
}

func TestDoctorRefusesWrongHosts(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--probe 2001:db8::1", "--probe www.example.net", "--dns resolver"} {
		if _, errs, code := call(t, full, append([]string{"doctor"}, strings.Fields(args)...)...); code != 1 || !strings.Contains(errs, "use one such as 198.51.100.7") {
			t.Errorf("doctor %s: exit code %d, %s", args, code, errs)
		}
	}
}

// unpack returns the files of a bundle.
func unpack(t *testing.T, b []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

func TestSupportBundleIsWrittenWhole(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "bundle.tar.gz")
	out, errs, code := call(t, full, "support-bundle", name)
	if code != 0 || !strings.Contains(out, "\n7      log.txt\n") || !strings.Contains(out, "wrote "+name) {
		t.Fatalf("exit code %d, %q, %q", code, out, errs)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := unpack(t, b); got["nat64d-support/log.txt"] != "a line\n" || !strings.HasPrefix(got["nat64d-support/nat64ctl-version.txt"], "v9.8.7 ") || len(got) != 3 {
		t.Errorf("the bundle has %q", got)
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, errs, code := call(t, full, "support-bundle", name); code != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("an existing file: exit code %d, %s", code, errs)
	}
	if _, errs, code := call(t, full, "support-bundle", "--force", name); code != 0 {
		t.Errorf("--force: exit code %d, %s", code, errs)
	}
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("the folder has %v, %v", left, err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := call(t, full, "support-bundle", "--force", pipe); code != 1 || !strings.Contains(errs, "is a device, a pipe or a socket") {
		t.Errorf("a pipe: exit code %d, %s", code, errs)
	}
	if info, err := os.Stat(pipe); err != nil || info.Mode().IsRegular() {
		t.Errorf("the pipe was replaced: %v, %v", info, err)
	}
	out, _, code = call(t, full, "support-bundle", "-")
	if code != 0 || len(unpack(t, []byte(out))) != 3 {
		t.Errorf("-: exit code %d, %d bytes", code, len(out))
	}
}

// Without a daemon, or with a folder that does not exist, there is no file.
func TestSupportBundleFailsWithoutFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, _, code := call(t, filepath.Join(dir, "none.sock"), "support-bundle", filepath.Join(dir, "bundle")); code != 3 {
		t.Errorf("without a daemon: exit code %d", code)
	}
	if _, errs, code := call(t, full, "support-bundle", filepath.Join(dir, "none", "bundle")); code != 1 || !strings.Contains(errs, "no such file") {
		t.Errorf("without the folder: exit code %d, %s", code, errs)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the folder has %v, %v", left, err)
	}
}
