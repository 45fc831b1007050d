package test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"nat64d/lab"
	"nat64d/ops/control"
)

// chaosTime is the time of TestChaos without CHAOS in the environment.
const chaosTime = 20 * time.Second

// The traffic of TestChaos.
const (
	chaosIdle      = 1000 // TCP connections that say something at the beginning and at the end
	chaosFlows     = 20   // UDP sockets that say something all the time
	chaosDownloads = 2    // at a time
	chaosSize      = 48 << 20
	chaosSilence   = 20 * time.Second // longest time without an answer
)

// chaos is a gateway that an adversary restarts, kills and disturbs, and the traffic that must survive it.
type chaos struct {
	t      *testing.T
	lab    *lab.Lab
	random *rand.Rand
	builds [2]string // two builds of nat64d
	args   []string
	socket string
	daemon *daemon
	done   map[string]int // disturbances by name

	downloads atomic.Int64
	echoes    atomic.Int64
}

// TestChaos kills, stops, upgrades, suspends and reloads nat64d, flaps its links and flushes its nftables rules every second or
// so, while downloads with hashes, 1000 idle connections, UDP flows and pings run through it. All of them survive with the same
// transport addresses, and in the end no port is leaked or bound twice.
func TestChaos(t *testing.T) {
	length := chaosTime
	if text := os.Getenv("CHAOS"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("CHAOS: %v", err)
		}
	}
	dir := stateDir(t)
	t.Setenv("NAT64D_STATE_SAVE", "true")
	t.Setenv("NAT64D_STATE_DIR", dir)
	l := network(t, lab.Options{})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &chaos{t: t, lab: l, random: rand.New(rand.NewPCG(seed, 1)), socket: socketPath(t), done: map[string]int{}}
	other, err := panicky() // with another version
	if err != nil {
		t.Fatal(err)
	}
	c.builds = [2]string{binaries(t).nat64d, other}
	c.args = []string{"--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", lab.Gateway4 + ":2000-29999", "--handover", "10s"}
	c.start(nil)
	serveHTTP(t, l)
	seen := serveMirror(t, l)
	idle := c.openIdle()
	c.daemon.must("bib", "add", "tcp", "["+lab.Client6+"]:8080", lab.Gateway4+":80")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var traffic errgroup.Group
	for range chaosDownloads {
		traffic.Go(func() error { return c.download(ctx) })
	}
	for range chaosFlows {
		traffic.Go(func() error { return c.talk(ctx) })
	}
	traffic.Go(func() error { return c.ping(ctx) })
	for end := time.Now().Add(length); time.Now().Before(end) && !t.Failed(); {
		time.Sleep(time.Duration(c.random.IntN(1500)) * time.Millisecond)
		c.disturb()
	}
	cancel()
	if err := traffic.Wait(); err != nil {
		t.Error(err)
	}
	c.checkIdle(idle, seen)
	c.checkTables(idle)
	t.Logf("%v; %d downloads, %d echoes", c.done, c.downloads.Load(), c.echoes.Load())
	if c.downloads.Load() == 0 || c.echoes.Load() == 0 {
		t.Error("there was no traffic")
	}
}

// stateDir returns a state directory on a tmpfs.
func stateDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nat64d-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "state")
}

// start starts one of the builds, which logs to a file if it is not nil.
func (c *chaos) start(log *os.File) {
	c.t.Helper()
	c.daemon = launchInto(c.t, c.lab, log, c.builds[c.random.IntN(2)], c.socket, c.args...)
	if log == nil {
		c.daemon.ready()
		return
	}
	eventually(c.t, startWithin, "nat64d with a blocked log is ready", func() error {
		out, errs, code := c.daemon.ctl("status", "-o", "json")
		if code != 0 || !strings.Contains(out, `"ready": true`) && !strings.Contains(out, `"ready":true`) {
			return fmt.Errorf("code %d: %s%s", code, out, errs)
		}
		return nil
	})
}

// disturb does one of the things that happen to a gateway.
func (c *chaos) disturb() {
	c.t.Helper()
	kinds := []struct {
		name string
		do   func()
	}{
		{"kill", func() { c.kill(); c.start(nil) }},
		{"kill twice", func() { c.kill(); c.start(nil); c.kill(); c.start(nil) }},
		{"kill while it starts", c.killStart},
		{"restart", func() { c.daemon.signal(syscall.SIGTERM); c.daemon.wait(); c.start(nil) }},
		{"reload", func() { c.daemon.signal(syscall.SIGHUP) }},
		{"suspend", c.suspend},
		{"flap v4", func() { c.flap(c.lab.NIC4) }},
		{"flap v6", func() { c.flap(c.lab.NIC6) }},
		{"flush nftables", c.flush},
		{"blocked log", c.blockedLog},
	}
	k := kinds[c.random.IntN(len(kinds))]
	c.done[k.name]++
	k.do()
}

func (c *chaos) kill() {
	c.daemon.signal(syscall.SIGKILL)
	c.daemon.wait()
}

// killStart kills a start at a random moment.
func (c *chaos) killStart() {
	c.kill()
	c.daemon = launchInto(c.t, c.lab, nil, c.builds[0], c.socket, c.args...)
	time.Sleep(time.Duration(c.random.IntN(300)) * time.Millisecond)
	c.kill()
	c.start(nil)
}

func (c *chaos) suspend() {
	c.daemon.signal(syscall.SIGSTOP)
	time.Sleep(time.Second)
	c.daemon.signal(syscall.SIGCONT)
}

func (c *chaos) flap(nic string) {
	for _, up := range []bool{false, true} {
		if err := c.lab.Gateway.SetUp(nic, up); err != nil {
			c.t.Error(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (c *chaos) flush() {
	path, _ := tool(c.t, "nft")
	if out, err := c.lab.Gateway.Output(c.t.Context(), path, "flush", "ruleset"); err != nil {
		c.t.Errorf("nft: %v: %s", err, out)
	}
}

// blockedLog restarts nat64d with a log that is full and that no process reads.
func (c *chaos) blockedLog() {
	r, w, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { r.Close() })
	defer w.Close()
	fd := int(w.Fd()) // each call makes the pipe blocking
	if err := syscall.SetNonblock(fd, true); err != nil {
		c.t.Fatal(err)
	}
	for err == nil {
		_, err = syscall.Write(fd, make([]byte, 4096))
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		c.t.Fatal(err)
	}
	c.kill()
	c.start(w)
}

// download fetches files one after the other until the context ends, and the last one to its end.
func (c *chaos) download(ctx context.Context) error {
	want := lab.Sum(chaosSize)
	for ctx.Err() == nil {
		got, err := c.lab.Client.Download(limit(c.t, 2*time.Minute), target+":80", chaosSize)
		if refused := new(net.OpError); errors.As(err, &refused) && refused.Op == "dial" && transient(err) {
			time.Sleep(50 * time.Millisecond) // the link is down at the moment: a new connection fails at once
			continue
		}
		if err != nil {
			return fmt.Errorf("download: %w", err)
		}
		if got.Sum != want {
			return fmt.Errorf("a download has the hash %s, want %s", got.Sum, want)
		}
		c.downloads.Add(1)
	}
	return nil
}

// talk sends numbers from one UDP socket. The mirror answers with the transport address that it sees, which never changes.
func (c *chaos) talk(ctx context.Context) error {
	conn, err := c.lab.Client.Dial(ctx, "udp", target+":9")
	if err != nil {
		return err
	}
	defer conn.Close()
	first, last := "", time.Now()
	b := make([]byte, 64)
	for ctx.Err() == nil {
		if _, err := conn.Write([]byte("address?")); err != nil && !transient(err) {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Read(b)
		switch {
		case err == nil && first == "":
			first = string(b[:n])
		case err == nil && string(b[:n]) != first:
			return fmt.Errorf("a UDP flow of %s comes from %s now", first, b[:n])
		case err != nil && time.Since(last) > chaosSilence:
			return fmt.Errorf("a UDP flow had no answer for %v: %w", chaosSilence, err)
		}
		if err == nil {
			last = time.Now()
			c.echoes.Add(1)
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// transient reports whether an error is of a link that is down, or a port unreachable for a moment.
func transient(err error) bool {
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENETDOWN)
}

// ping sends echo requests with one Identifier.
func (c *chaos) ping(ctx context.Context) error {
	last := time.Now()
	for sequence := uint16(0); ctx.Err() == nil; sequence++ {
		_, err := c.lab.Client.PingAs(limit(c.t, 200*time.Millisecond), lab.Server4As6, 4711, sequence, 8)
		switch {
		case err == nil:
			last = time.Now()
			time.Sleep(50 * time.Millisecond)
		case time.Since(last) > chaosSilence:
			return fmt.Errorf("a ping had no reply for %v: %w", chaosSilence, err)
		}
	}
	return nil
}

// mirror is the transport addresses that the server sees, by the number that a connection sends.
type mirror struct {
	sync.Mutex
	tcp map[uint64]netip.AddrPort
}

// serveMirror echoes the numbers on TCP connections, and notes where they come from; it tells UDP clients where they come from.
func serveMirror(t *testing.T, l *lab.Lab) *mirror {
	t.Helper()
	m := &mirror{tcp: map[uint64]netip.AddrPort{}}
	tcp, err := l.Server.Listen("tcp", lab.Server4+":9")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return // closed
			}
			t.Cleanup(func() { _ = c.Close() })
			go m.echo(c)
		}
	}()
	udp := listenUDP(t, l.Server, lab.Server4+":9")
	go func() {
		b := make([]byte, 64)
		for {
			_, from, err := udp.ReadFrom(b)
			if err != nil {
				return // closed
			}
			_, _ = udp.WriteTo([]byte(from.String()), from) // the client repeats its question
		}
	}()
	return m
}

func (m *mirror) echo(c net.Conn) {
	var b [8]byte
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return
		}
		m.Lock()
		m.tcp[binary.BigEndian.Uint64(b[:])] = c.RemoteAddr().(*net.TCPAddr).AddrPort()
		m.Unlock()
		if _, err := c.Write(b[:]); err != nil {
			return
		}
	}
}

// openIdle opens connections that exchange one number.
func (c *chaos) openIdle() []net.Conn {
	c.t.Helper()
	conns := make([]net.Conn, chaosIdle)
	var dialing errgroup.Group
	dialing.SetLimit(50)
	for i := range conns {
		dialing.Go(func() (err error) {
			if conns[i], err = c.lab.Client.Dial(limit(c.t, time.Minute), "tcp", target+":9"); err != nil {
				return err
			}
			return exchange(conns[i], uint64(i))
		})
	}
	if err := dialing.Wait(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return conns
}

// checkIdle exchanges another number over each connection.
func (c *chaos) checkIdle(conns []net.Conn, seen *mirror) {
	c.t.Helper()
	var asking errgroup.Group
	asking.SetLimit(50)
	for i, conn := range conns {
		asking.Go(func() error {
			if err := exchange(conn, uint64(i)); err != nil {
				return fmt.Errorf("idle connection %d: %w", i, err)
			}
			return nil
		})
	}
	if err := asking.Wait(); err != nil {
		c.t.Error(err)
	}
	mapped := map[netip.AddrPort]int{}
	for _, s := range c.daemon.listSessions() {
		if s.Protocol == "tcp" && s.Peer.Port() == 9 {
			mapped[s.Client] = int(s.Mapped.Port())
		}
	}
	seen.Lock()
	defer seen.Unlock()
	for i, conn := range conns {
		client := conn.LocalAddr().(*net.TCPAddr).AddrPort()
		if got, want := mapped[client], int(seen.tcp[uint64(i)].Port()); got != want {
			c.t.Errorf("idle connection %d of %v: the table has port %d, the server sees %d", i, client, got, want)
		}
	}
}

// checkTables compares the bindings with the ports in use: none is bound twice, none is in use without a binding, and the row that
// an administrator has added is there.
func (c *chaos) checkTables(conns []net.Conn) {
	c.t.Helper()
	var bindings []control.Binding
	decode(c.t, c.daemon.must("bib", "list", "-o", "json"), &bindings)
	count, bound, static := map[string]int{}, map[string]bool{}, 0
	for _, b := range bindings {
		key := b.Protocol + " " + b.Mapped.String()
		if bound[key] {
			c.t.Errorf("%s is bound twice", key)
		}
		bound[key] = true
		count[b.Protocol]++
		if b.Static {
			static++
		}
	}
	if static != 1 {
		c.t.Errorf("%d static bindings, want the one that was added at run time", static)
	}
	for _, p := range c.daemon.status().Protocols {
		if off := p.Pool4Used - count[p.Protocol]; off < -2 || off > 2 { // bindings begin and end between the two commands
			c.t.Errorf("%s: %d bindings, but %d ports in use", p.Protocol, count[p.Protocol], p.Pool4Used)
		}
	}
	if count["tcp"] < len(conns) {
		c.t.Errorf("%d TCP bindings for %d connections", count["tcp"], len(conns))
	}
}
