package test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// Numbered datagrams: the number in each direction, unless a test needs more, of flows, of datagrams of a flow in one system call, and in
// flight.
const (
	numbered   = 1_500_000
	flows      = 64
	volley     = 16
	underWay   = 192 // fewer than the ring of a veth holds while threads receive
	numberLen  = 12  // flow and number
	numberPort = "4000"
	stalled    = 200 * time.Millisecond
)

// Datagrams arrive in order within each flow, whichever worker processes them.
func TestFlowsStayInOrder(t *testing.T) {
	l := network(t, lab.Options{NoOffload: true})
	// If a thread moves to another processor, its packets overtake each other in the kernel's queues; hence pin.
	g := start(t, l, sparePool, "-c", write(t, t.TempDir(), "interfaces: { workers: 2, pin: [0, 1] }"))
	carryNumbered(t, l, numbered)
	g.stop()
}

// carryNumbered sends so many numbered datagrams in one direction, and then in the other.
func carryNumbered(t *testing.T, l *lab.Lab, most int64) {
	t.Helper()
	checkPing(t, l) // resolves the neighbours; the ends' kernels would reorder the first packets while they empty a neighbour's queue
	server := packetConn(t, l.Server, lab.Server4+":"+numberPort)
	clients := make([]net.PacketConn, flows)
	for i := range clients {
		clients[i] = packetConn(t, l.Client, "[::]:0")
	}
	up := &sequence{name: "up", most: most}
	peers := make([]net.Addr, flows) // of each flow, as seen by the server
	up.learn = func(flow uint32, from net.Addr) {
		if peers[flow] == nil {
			peers[flow] = from
		}
	}
	to, err := net.ResolveUDPAddr("udp", target+":"+numberPort)
	if err != nil {
		t.Fatal(err)
	}
	up.carry(t, func(flow int) (net.PacketConn, net.Addr) { return clients[flow], to }, []net.PacketConn{server})
	down := &sequence{name: "down", most: most}
	down.carry(t, func(flow int) (net.PacketConn, net.Addr) { return server, peers[flow] }, clients)
}

// packetConn opens a UDP socket with a buffer for all datagrams in flight.
func packetConn(t *testing.T, n *lab.Namespace, address string) net.PacketConn {
	t.Helper()
	c, err := n.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // carry may have closed it
	roomy(t, c.(*net.UDPConn))
	return c
}

// roomy gives a socket a buffer for all datagrams in flight.
func roomy(t *testing.T, c *net.UDPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// sequence sends and checks numbered datagrams of all flows in one direction.
type sequence struct {
	name       string
	most       int64 // to send
	sent, came atomic.Int64
	learn      func(flow uint32, from net.Addr)
}

// carry sends the datagrams from two threads, each with half of the flows, and checks what arrives.
func (s *sequence) carry(t *testing.T, from func(flow int) (net.PacketConn, net.Addr), receivers []net.PacketConn) {
	t.Helper()
	began := time.Now()
	var last [flows]atomic.Uint32
	var send errgroup.Group
	receive, ctx := errgroup.WithContext(t.Context())
	for _, c := range receivers {
		receive.Go(func() error { return s.check(c, &last) })
	}
	for half := range 2 {
		send.Go(func() error { return s.send(ctx, half, from) })
	}
	err := send.Wait()
	for n := int64(-1); n != s.came.Load(); time.Sleep(stalled) {
		n = s.came.Load()
	}
	for _, c := range receivers { // a receiver ends when it has received everything
		_ = c.SetReadDeadline(time.Now())
	}
	if e := receive.Wait(); err == nil {
		err = e
	}
	for _, c := range receivers {
		_ = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		t.Fatal(s.name, err)
	}
	sent, came := s.sent.Load(), s.came.Load()
	t.Logf("%s: %d sent, %d arrived in order, %.0f a second", s.name, sent, came, float64(came)/time.Since(began).Seconds())
	if came < sent-sent/1000 {
		t.Errorf("%s: %d of %d datagrams arrived", s.name, came, sent)
	}
}

// send sends one half of the flows until ctx ends, and limits the datagrams in flight to what the queues hold.
func (s *sequence) send(ctx context.Context, half int, from func(flow int) (net.PacketConn, net.Addr)) error {
	runtime.LockOSThread() // not unlocked: the thread is bound to one processor
	var set unix.CPUSet
	set.Set(half % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return err
	}
	buffers := make([]byte, volley*numberLen)
	batch := make([]ipv4.Message, volley)
	for i := range batch {
		batch[i].Buffers = [][]byte{buffers[i*numberLen:][:numberLen]}
	}
	var forgiven int64
	for n := uint32(0); s.sent.Load() < s.most && ctx.Err() == nil; n += volley {
		for flow := half; flow < flows; flow += 2 {
			c, to := from(flow)
			for i := range batch {
				binary.BigEndian.PutUint32(batch[i].Buffers[0], uint32(flow))
				binary.BigEndian.PutUint64(batch[i].Buffers[0][4:], uint64(n)+uint64(i)+1)
				batch[i].Addr = to
			}
			for rest := batch; len(rest) > 0; {
				sent, err := ipv4.NewPacketConn(c).WriteBatch(rest, 0)
				if err != nil {
					return err
				}
				rest = rest[sent:]
			}
			s.sent.Add(volley)
			for since := time.Now(); s.sent.Load()-s.came.Load()-forgiven > underWay; runtime.Gosched() {
				if time.Since(since) > stalled { // they are lost, and counted at the end
					forgiven = s.sent.Load() - s.came.Load()
				}
			}
		}
	}
	return nil
}

// check receives until its socket is closed, and fails if a datagram arrives after a later one of its flow.
func (s *sequence) check(c net.PacketConn, last *[flows]atomic.Uint32) error {
	batch := make([]ipv4.Message, 64)
	for i := range batch {
		batch[i].Buffers = [][]byte{make([]byte, numberLen)}
	}
	for {
		n, err := ipv4.NewPacketConn(c).ReadBatch(batch, 0)
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return nil
		}
		if err != nil {
			return err
		}
		for _, m := range batch[:n] {
			flow, number := binary.BigEndian.Uint32(m.Buffers[0]), uint32(binary.BigEndian.Uint64(m.Buffers[0][4:]))
			if before := last[flow].Swap(number); number <= before {
				return fmt.Errorf("flow %d: number %d came after %d", flow, number, before)
			}
			if s.learn != nil {
				s.learn(flow, m.Addr)
			}
		}
		s.came.Add(int64(n))
	}
}

// The daemon is built with the race detector. Packets flow in both directions while tables grow and pools change.
func TestRaceDetector(t *testing.T) {
	l := network(t, lab.Options{NoOffload: true})
	program := filepath.Join(t.TempDir(), "nat64d")
	cmd := exec.Command("go", "build", "-race", "-o", program, "./cmd/nat64d")
	cmd.Dir, cmd.Env = "..", append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build nat64d with the race detector: %v\n%s", err, out)
	}
	socket := socketPath(t)
	g := launchAs(t, l, program, socket, "--v6", l.NIC6, "--v4", l.NIC4, "--pool6", lab.Prefix6, "--pool4", sparePool, "--socket", socket,
		"-c", write(t, t.TempDir(), "interfaces: { workers: 2, moderation: 50us, busy_poll: 100us }"))
	g.ready()
	serveHTTP(t, l)
	serveEcho(t, l)
	checkPing(t, l)
	checkDownload(t, l, 64<<20)
	checkUpload(t, l, 64<<20)
	checkConnections(t, g, 200)
	g.stop()
	if log := g.log.String(); strings.Contains(log, "DATA RACE") {
		t.Error(log)
	}
}
