//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// Every thread of a running gateway has at most the capabilities that it needs, no_new_privs and a seccomp filter, and
// the gateway still forwards, reloads and takes an interface that was made again.
func TestGatewayGivesUpPrivileges(t *testing.T) {
	l := network(t, lab.Options{})
	serveHTTP(t, l)
	g := start(t, l, ownPool)
	var most uint64
	for _, c := range []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_NICE} {
		most |= 1 << c
	}
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", g.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("no threads: %v", err)
	}
	value := regexp.MustCompile(`(?m)^(CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):\s*([0-9a-f]+)$`)
	for _, thread := range threads {
		text, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		for _, m := range value.FindAllStringSubmatch(string(text), -1) {
			n, err := strconv.ParseUint(m[2], 16, 64)
			wrong := err != nil
			switch m[1] {
			case "NoNewPrivs":
				wrong = wrong || n != 1
			case "Seccomp":
				wrong = wrong || n != 2
			default:
				wrong = wrong || n&^most != 0
			}
			if wrong {
				t.Errorf("%s: %s", thread, m[0])
			}
		}
	}
	if err := l.Unplug4(); err != nil {
		t.Fatal(err)
	}
	if err := l.Plug4(); err != nil {
		t.Fatal(err)
	}
	eventually(t, startWithin, "nat64d is ready again", func() error {
		if s := g.status(); !s.Ready {
			return fmt.Errorf("not ready: %q", s.NotReady)
		}
		return nil
	})
	checkDownload(t, l, 1<<20)
	g.stop()
}
