//go:build linux

package daemon_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"go.uber.org/goleak"

	"nat64d/daemon"
	"nat64d/lab"
	"nat64d/ops/control"
)

// inGateway is set in a process of this test that runs in the gateway's namespace of a lab. It holds the folder of the test. The
// threads of a daemon must all be in one namespace, and goroutines do not inherit the one of the thread that starts them.
const inGateway = "DAEMON_TEST_IN_GATEWAY"

// patience bounds each wait for a condition.
const patience = 10 * time.Second

const configuration = `interfaces: { v6: { name: v6 }, v4: { name: v4 } }
pool4: [ { address: 192.0.2.1, ports: %s } ]
sessions: { max: 10000 }
dns64: { enabled: true, listen: ["127.0.0.1:53"], upstreams: [192.0.2.2] }
api: { socket: %s }
`

// A daemon is started as a library, translates, refuses a bad configuration, takes a good one and leaves nothing behind.
func TestDaemonLifecycle(t *testing.T) {
	if dir := os.Getenv(inGateway); dir != "" {
		lifecycle(t, dir)
		return
	}
	l, err := lab.New(lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.Command(os.Args[0], "-test.run=^TestDaemonLifecycle$", "-test.v", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), inGateway+"="+t.TempDir())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.Gateway.Start(cmd); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pinged := make(chan error)
	go func() { pinged <- pingUntilAnswered(ctx, l.Client) }()
	err = cmd.Wait()
	cancel()
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if err := <-pinged; err != nil {
		t.Errorf("no ping was answered: %v", err)
	}
}

// pingUntilAnswered pings the IPv4 server through the gateway until an answer arrives or ctx is done.
func pingUntilAnswered(ctx context.Context, client *lab.Namespace) (err error) {
	for i := uint16(0); ctx.Err() == nil; i++ {
		once, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		_, err = client.Ping(once, lab.Server4As6, i, 56)
		cancel()
		if err == nil {
			return nil
		}
	}
	return err
}

func lifecycle(t *testing.T, dir string) {
	defer goleak.VerifyNone(t)
	file, socket := filepath.Join(dir, "nat64d.yaml"), filepath.Join(dir, "sock")
	write := func(ports string) {
		if err := os.WriteFile(file, fmt.Appendf(nil, configuration, ports, socket), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("7000-7999")
	var text buffer
	log := daemon.NewLogQueue(&text)
	defer log.Close(time.Second)
	d, err := daemon.New(daemon.Options{File: file, Log: log, Version: control.Version{Version: "test"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	select {
	case <-d.Ready():
	case err := <-ended:
		t.Fatalf("ended: %v\n%s", err, text.String())
	case <-time.After(patience):
		t.Fatalf("not ready\n%s", text.String())
	}
	client := &control.Client{Socket: socket}
	status := func() control.Status {
		s, err := client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := status(); !s.Ready || s.Version.Version != "test" || s.PID != os.Getpid() {
		t.Errorf("status %+v", s)
	}
	if !guardTable(t) {
		t.Error("no nftables table while the daemon runs")
	}
	until(t, "a ping is translated both ways", func() bool {
		traffic := status().Traffic
		return traffic[0].Packets > 0 && traffic[1].Packets > 0
	})

	write("70000")
	if _, err := client.Reload(ctx); err == nil || !strings.Contains(err.Error(), "pool4[0]") {
		t.Errorf("reload of a wrong configuration: %v", err)
	}
	d.Reload()
	until(t, "a failed reload is logged", func() bool { return strings.Contains(text.String(), "level=ERROR") })
	if n := status().Protocols[0].Pool4Ports; n != 1000 {
		t.Errorf("pool4 has %d ports of TCP after a failed reload, want 1000", n)
	}
	write("7000-8999")
	d.Reload()
	until(t, "pool4 grows", func() bool { return status().Protocols[0].Pool4Ports == 2000 })

	stop()
	if err := <-ended; err != nil {
		t.Errorf("Run returned %v\n%s", err, text.String())
	}
	if guardTable(t) {
		t.Error("the nftables table is left behind")
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the control socket is left behind: %v", err)
	}
	for _, name := range []string{"guard", "nic/v6", "nic/v4"} {
		l, err := net.Listen("unix", "@nat64d/"+name)
		if err != nil {
			t.Errorf("the lock %s is left behind: %v", name, err)
			continue
		}
		l.Close()
	}
	if reserved, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports"); err != nil || strings.TrimSpace(string(reserved)) != "" {
		t.Errorf("ports are left reserved: %q, %v", reserved, err)
	}
}

// Run of a daemon that cannot start returns the reason, and reverts its changes.
func TestDaemonThatCannotStartLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "sock")
	file := filepath.Join(dir, "nat64d.yaml")
	taken, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if err := os.WriteFile(file, fmt.Appendf(nil, configuration, "7000", socket), 0o600); err != nil {
		t.Fatal(err)
	}
	log := daemon.NewLogQueue(new(buffer))
	defer log.Close(time.Second)
	d, err := daemon.New(daemon.Options{File: file, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Run(t.Context()); err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("got %v, want an error about %s", err, socket)
	}
	select {
	case <-d.Ready():
		t.Error("the daemon reports readiness")
	default:
	}
}

func TestNewReportsProblemsOfTheConfiguration(t *testing.T) {
	t.Parallel()
	log := daemon.NewLogQueue(new(buffer))
	defer log.Close(time.Second)
	_, err := daemon.New(daemon.Options{File: filepath.Join(t.TempDir(), "none.yaml"), Log: log})
	if err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("got %v", err)
	}
}

// guardTable reports whether the namespace has the table of the guard.
func guardTable(t *testing.T) bool {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Name == "nat64d" {
			return true
		}
	}
	return false
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

// buffer is a buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *buffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *buffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
