//go:build linux

package test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// lateAddress is an address that the gateway gets after the start.
const lateAddress = "203.0.113.53"

// confinedFile is a configuration with a lifetime that a test changes. Its DNS64 listens on lateAddress, too.
const confinedFile = "pool4: [ { address: " + lab.Gateway4 + ", ports: 7000-8000 } ]\n" +
	"dns64: { enabled: true, upstreams: [192.0.2.2], listen: [\"" + lab.Gateway4 + ":53\", \"" + lateAddress + ":53\"] }\n" +
	"sessions: { timeouts: { udp: %s } }\n"

// Every thread of a running gateway has at most the capabilities that it needs, no_new_privs, a seccomp filter and Landlock, and
// the gateway still takes an interface that was made again, with the fast engine, persists a change, reads a file that was
// replaced, opens port 53 of a new address, and cleans up.
func TestGatewayGivesUpPrivileges(t *testing.T) {
	t.Setenv("NAT64D_STATE_SAVE", "true")
	state := stateDir(t)
	t.Setenv("NAT64D_STATE_DIR", state)
	l := network(t, lab.Options{})
	serveHTTP(t, l)
	g := startConfig(t, l, fmt.Sprintf(confinedFile, "6m"))
	checkThreads(t, g)
	checkSandbox(t, g)
	checkDownload(t, l, 1<<20)
	engine := g.status().Interfaces[1].Engine
	if err := l.Unplug4(); err != nil {
		t.Fatal(err)
	}
	if err := l.Plug4(); err != nil {
		t.Fatal(err)
	}
	if said := g.must("config", "set", "--persist", "sessions.timeouts.udp", "7m"); !strings.Contains(said, "90-nat64ctl.yaml") {
		t.Errorf("nat64ctl config set --persist: %s", said)
	}
	next := g.file + ".next" // editors replace files
	if err := os.WriteFile(next, []byte(configHead(l, g.socket)+fmt.Sprintf(confinedFile, "8m")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, g.file); err != nil {
		t.Fatal(err)
	}
	g.must("reload")
	if got := g.value("sessions.timeouts.udp"); got != "7m" {
		t.Errorf("the lifetime of UDP sessions is %s after a reload, want that of the drop-in, 7m", got)
	}
	ip, _ := tool(t, "ip")
	if out, err := l.Gateway.Output(limit(t, 5*time.Second), ip, "address", "add", lateAddress, "dev", "lo"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, recoverWithin, "DNS64 listens on the new address", func() error {
		c, err := l.Gateway.Dial(limit(t, time.Second), "tcp", lateAddress+":53")
		if err == nil {
			c.Close()
		}
		return err
	})
	eventually(t, startWithin, "nat64d is ready again", func() error {
		if s := g.status(); !s.Ready || s.Interfaces[1].Engine != engine {
			return fmt.Errorf("engine %s, not ready: %q", s.Interfaces[1].Engine, s.NotReady)
		}
		return nil
	})
	checkDownload(t, l, 1<<20)
	g.stop()
	checkNothingLeft(t, l)
	if _, err := os.Stat(g.socket); err == nil {
		t.Error("the control socket is left")
	}
}

// checkThreads expects that no thread has more than it needs.
func checkThreads(t *testing.T, g *daemon) {
	t.Helper()
	var most uint64
	for _, c := range []int{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_NICE} {
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
}

// checkSandbox expects that the status shows what is in force.
func checkSandbox(t *testing.T, g *daemon) {
	t.Helper()
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		t.Errorf("this kernel has no Landlock: %v", err)
	}
	s := g.status().Sandbox
	if got := strings.Join(s.Capabilities, " "); got != "CAP_NET_BIND_SERVICE CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_NICE CAP_BPF" ||
		!s.NoNewPrivs || !s.Seccomp || s.Landlock != version {
		t.Errorf("the status has %+v; the kernel has Landlock %d", s, version)
	}
}
