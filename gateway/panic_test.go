package gateway

import (
	"bytes"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/ops/metrics"
	"nat64d/packet"
	"nat64d/session"
)

// cursed routes panic for packets of one remote port.
type cursed struct {
	home
	port uint16
}

func (c cursed) Hop4(f *packet.Selector4) (packet.Hop, bool, drop.Reason) {
	if f.DstPort == c.port {
		panic("a bug in a look-up")
	}
	return c.home.Hop4(f)
}

// batches is a port that delivers one batch after another.
type batches struct {
	catch
	list [][]packet.Frame
}

func (b *batches) Receive(fs []packet.Frame, _ time.Duration) (int, error) {
	if len(b.list) == 0 {
		return 0, nil
	}
	n := copy(fs, b.list[0])
	b.list = b.list[1:]
	return n, nil
}

// cursedPort is the remote port whose packets cause a panic.
const cursedPort = 666

// cursedGateway returns a gateway with a bug, and its log.
func cursedGateway(t *testing.T, now *time.Duration) (*Gateway, *bytes.Buffer, *[]caught) {
	var log bytes.Buffer
	var sent []caught
	logger := slog.New(slog.NewTextHandler(&log, nil))
	g := stillWith(t, func(o *Options) {
		c := cursed{port: cursedPort}
		o.Routes, o.Hops, o.Log = c, func() Hops { return c }, logger
		o.Panics = NewPanics(logger, func(message string) { t.Errorf("ended at once: %s", message) })
		o.Clock = func() time.Duration { return *now }
	})
	for s, w := range g.workers {
		w.in.port = &batches{catch: catch{side: packet.Family(s), all: &sent}}
		w.back.port = &catch{side: packet.Family(1 - s), all: &sent}
	}
	return g, &log, &sent
}

// evil returns a packet that causes the panic, with a payload.
func evil() []byte {
	b := udp6(7)
	b[packet.IPv6Len+2], b[packet.IPv6Len+3] = cursedPort>>8, cursedPort&0xff
	copy(b[packet.IPv6Len+packet.UDPLen:], "secret payload")
	return b
}

// A panic loses at most the batch in which it happens: established flows continue in the next one, slots can be reused, and the
// log has the stack and the headers of the packet in one line.
func TestPanicLosesOneBatch(t *testing.T) {
	t.Parallel()
	now := time.Hour
	g, log, sent := cursedGateway(t, &now)
	w := g.workers[packet.V6]
	port := w.in.port.(*batches)
	cycle := func(packets ...[]byte) error {
		*sent, port.list = nil, [][]packet.Frame{frames(packets)}
		return w.cycle()
	}
	if err := cycle(udp6(1), udp6(2)); err != nil || len(*sent) != 2 {
		t.Fatalf("%v, %d packets left", err, len(*sent))
	}
	if err := cycle(udp6(1), evil(), udp6(2)); err != nil {
		t.Fatal(err)
	}
	if n := g.Counters.Drops(drop.Panic); n != 3 {
		t.Errorf("%d packets count as lost, want the batch of 3", n)
	}
	if b := g.Counters.Balance(metrics.From6To4); b.Arrived != 5 || b.Forwarded != 2 {
		t.Errorf("of %d frames %d count as forwarded, want 2 of 5", b.Arrived, b.Forwarded)
	}
	if err := cycle(udp6(1), udp6(2)); err != nil || len(*sent) != 2 {
		t.Fatalf("after the panic: %v, %d packets left", err, len(*sent))
	}
	g.epochs.Wait() // does not return if the worker is still in the batch
	text := log.String()
	if strings.Count(text, "panic, continuing") != 1 || !strings.Contains(text, "gateway.cursed.Hop4") ||
		!strings.Contains(text, hex.EncodeToString(evil()[:packet.IPv6Len+packet.UDPLen])) {
		t.Errorf("the log is %q", text)
	}
	if strings.Contains(text, hex.EncodeToString([]byte("secret"))) || strings.Count(text, "\n") != 1 {
		t.Errorf("the log has the payload, or several lines: %q", text)
	}
	if n, last := g.upkeep.panics.Count(); n != 1 || last.IsZero() {
		t.Errorf("%d panics are counted, the last at %v", n, last)
	}
}

// A panic is an accident once, and a reason to start again when the next one follows within a minute.
func TestSecondPanicWithinMinuteEndsGateway(t *testing.T) {
	t.Parallel()
	now := time.Hour
	g, _, _ := cursedGateway(t, &now)
	w := g.workers[packet.V6]
	port := w.in.port.(*batches)
	for i, c := range []struct {
		after time.Duration
		ends  bool
	}{{0, false}, {panicAgain, false}, {panicAgain - time.Second, true}} {
		now += c.after
		port.list = [][]packet.Frame{frames([][]byte{evil()})}
		if err := w.cycle(); (err != nil) != c.ends {
			t.Errorf("panic %d, after %v: %v", i, c.after, err)
		}
	}
}

// Run returns the error of the second panic, so that the daemon stops in order.
func TestRunEndsAfterSecondPanic(t *testing.T) {
	t.Parallel()
	now := time.Hour
	g, _, _ := cursedGateway(t, &now)
	port := g.workers[packet.V6].in.port.(*batches)
	port.list = [][]packet.Frame{frames([][]byte{evil()}), frames([][]byte{evil()})}
	if err := g.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "second panic within a minute: a bug in a look-up") {
		t.Errorf("Run returned %v", err)
	}
}

// ended is the panic by which a test's fatal function returns to it.
type ended struct{ message string }

// recovered calls f, which panics, and returns the message of fatal, or "" if the process continues.
func recovered(f func()) (message string) {
	p := NewPanics(slog.New(slog.DiscardHandler), func(m string) { panic(ended{m}) })
	defer func() {
		if e, ok := recover().(ended); ok {
			message = e.message
		}
	}()
	defer func() {
		if value := recover(); value != nil {
			p.Aside("test", value)
		}
	}()
	f()
	return "no panic"
}

// A panic while the lock of a table is held ends the process; one in a look-up or outside of the tables does not.
func TestPanicWithLockedTableIsFatal(t *testing.T) {
	t.Parallel()
	g := still(t)
	g.workers[packet.V6].batch(frames([][]byte{udp6(1)}))
	if m := recovered(func() { g.Sessions.Purge(func(bib.Binding) bool { panic("a bug under a lock") }) }); !strings.Contains(m, "half changed") {
		t.Errorf("with a locked table: %q", m)
	}
	if m := recovered(func() { g.Sessions.From6(nil, nil) }); m != "" {
		t.Errorf("in a look-up: %q", m)
	}
	if m := recovered(func() { panic("elsewhere") }); m != "" {
		t.Errorf("elsewhere: %q", m)
	}
}

// The functions that are taken to lock nothing exist, and lock nothing.
func TestLocklessFunctionsLockNothing(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	for _, pkg := range []string{"table", "bib", "session", "pool4"} {
		files, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range f.Decls {
				name := locksName(pkg, d)
				if !lockless[name] {
					continue
				}
				found[name] = true
				ast.Inspect(d, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "Lock" || s.Sel.Name == "RLock" || s.Sel.Name == "TryLock") {
						t.Errorf("%s locks", name)
					}
					return true
				})
			}
		}
	}
	for name := range lockless {
		if !found[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// locksName returns the name that the runtime gives a method with a pointer receiver, or "".
func locksName(pkg string, d ast.Decl) string {
	f, ok := d.(*ast.FuncDecl)
	if !ok || f.Recv == nil {
		return ""
	}
	star, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return ""
	}
	switch x := star.X.(type) {
	case *ast.Ident:
		return pkg + ".(*" + x.Name + ")." + f.Name.Name
	case *ast.IndexExpr:
		return pkg + ".(*" + x.X.(*ast.Ident).Name + "[...])." + f.Name.Name
	}
	return ""
}

// An observer that panics loses its events; the deliverer and the sweep continue.
func TestPanicOfObserverIsCaught(t *testing.T) {
	t.Parallel()
	g := still(t)
	g.upkeep.panics.fatal = func(m string) { t.Error(m) }
	calls := 0
	g.Sessions.Observe(session.KindsOf(session.SessionMade), func([]session.Event, uint64) {
		if calls++; calls == 1 {
			panic("a bug in an observer")
		}
	})
	for port := range uint16(2) {
		g.workers[packet.V6].batch(frames([][]byte{udp6(port + 1)}))
		for g.delivered() {
		}
	}
	if n, _ := g.upkeep.panics.Count(); n != 1 || calls < 2 {
		t.Errorf("%d panics, %d calls", n, calls)
	}
}

// The log has the headers of a packet, whatever they claim, and nothing behind them.
func TestHeadersExcludePayload(t *testing.T) {
	t.Parallel()
	tcp := client([6]byte{0, 1, 1, 7, 9, packet.FlagSYN}, []byte("payload"))
	for _, c := range []struct {
		name string
		data []byte
		want int
	}{
		{"nothing", nil, 0},
		{"UDP", udp6(1), packet.IPv6Len + packet.UDPLen},
		{"TCP", tcp, len(tcp) - len("payload")},
		{"a stub", []byte{0x60, 0, 0}, 3},
	} {
		if n := len(headers(c.data)); n != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, n, c.want)
		}
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add(udp6(1))
	f.Add(evil())
	f.Fuzz(func(t *testing.T, data []byte) {
		if h := headers(data); len(h) > maxQuoted || !bytes.HasPrefix(data, h) {
			t.Errorf("%d bytes", len(h))
		}
	})
}
