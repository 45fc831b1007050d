//go:build linux

package state

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nat64d/bib"
	"nat64d/drop"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/table"
)

var (
	conf = session.Config{
		Timeouts: session.Timeouts{
			UDP: 300 * time.Second, ICMP: 60 * time.Second,
			TCPEstablished: 7200 * time.Second, TCPOpening: 240 * time.Second, TCPTransitory: 240 * time.Second,
		},
		AllowInboundTCP: true, InboundRefresh: true, RSTDuringFIN: true, CheckSequence: true, PortHoldDown: 2 * time.Minute,
	}
	prefixes = []netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("2001:db8:64::/96")}
)

func numberOf(p netip.Prefix) (uint8, bool) {
	i := slices.Index(prefixes, p)
	return uint8(max(i, 0)), i >= 0
}

// memory returns a new directory on a tmpfs.
func memory(t testing.TB) string {
	t.Helper()
	path, err := os.MkdirTemp("/dev/shm", "nat64d-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	return path
}

// process is the tables of a process, with the clock of the machine.
type process struct {
	dir      *Dir
	start    time.Duration
	epochs   *table.Epochs
	bindings *bib.Table
	sessions *session.Table
}

// restore restores everything.
func restore(r *Restoration) (Report, error) {
	err := r.First()
	if err == nil {
		err = r.Rest()
	}
	return r.Report(), err
}

// begin makes the tables of a process in a state directory, and restores what an earlier process has left.
func begin(t testing.TB, path string, c session.Config, ports string) (p *process, r Report, saved error) {
	t.Helper()
	p = &process{start: Monotonic(), epochs: table.NewEpochs(1)}
	var err error
	if p.dir, err = Open(path); err != nil {
		t.Fatal(err)
	}
	s, saved := p.dir.Saved(time.Minute)
	if err := p.dir.Begin(Header{Start: p.start, Prefixes: prefixes}); err != nil {
		t.Fatal(err)
	}
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.1", ports)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	pool.KeepHeld(p.dir.HeldPieces(64))
	p.bindings = bib.New(pool, p.epochs, 20_000, [16]byte{2}, p.dir)
	p.sessions = session.New(p.bindings, p.epochs, 20_000, nil, c, p.dir)
	if saved == nil {
		if r, err = restore(s.Restore(t.Context(), p.sessions, p.now(), numberOf)); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.dir.Commit(); err != nil {
		t.Fatal(err)
	}
	return p, r, saved
}

// end gives the directory up without a word, like a process that is killed.
func (p *process) end() { _ = p.dir.Close() }

func (p *process) now() table.Time { return table.Time((Monotonic() - p.start) / table.Tick) }

// mapping is what two hosts see of a session.
type mapping struct {
	proto  packet.Proto
	client packet.Endpoint6
	mapped packet.Endpoint4
	remote packet.Endpoint4
}

// all returns the sessions.
func (p *process) all() map[mapping]session.Record {
	m := map[mapping]session.Record{}
	buf := make([]session.Record, 1000)
	for cursor := uint64(0); ; {
		n, next := p.sessions.Records(cursor, buf, p.now(), func(n uint8) netip.Prefix { return prefixes[n] })
		for _, r := range buf[:n] {
			if r.Kind == session.SessionRecord {
				m[mapping{r.Proto, r.Client, r.Mapped, r.Remote}] = r
			}
		}
		if cursor = next; next == 0 {
			return m
		}
	}
}

// held returns the ports in hold-down with the remaining times.
func (p *process) held() map[mapping]time.Duration {
	m := map[mapping]time.Duration{}
	buf := make([]pool4.HeldPort, 20_000)
	n, _ := p.bindings.Pool().HeldPorts(0, buf, p.now().Duration())
	for _, h := range buf[:n] {
		m[mapping{proto: h.Proto, mapped: h.At}] = h.Remaining
	}
	return m
}

// client returns one of many client addresses and ports.
func client(r *rand.Rand) (e packet.Endpoint6) {
	e.Addr = packet.Addr6{0x20, 1, 0xd, 0xb8, 14: byte(r.IntN(4)), 15: byte(r.IntN(250) + 1)}
	e.Port = uint16(1024 + r.IntN(40))
	return e
}

func remote(r *rand.Rand) packet.Endpoint4 {
	return packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, byte(r.IntN(3))}, Port: uint16(r.IntN(3) + 80)}
}

// step is a packet of a client, and perhaps the answer.
func (p *process) step(r *rand.Rand) (m mapping, ok bool) {
	p.epochs.Enter(0)
	defer p.epochs.Leave(0)
	f := session.Flow{Proto: packet.Proto(r.IntN(3)), Client: client(r), Remote: remote(r), Prefix: uint8(r.IntN(2))}
	segment := session.Segment{Event: packet.SYN, Seq: r.Uint32(), Window: 1000, Scale: 7}
	event := packet.TCPEvent(r.IntN(4))
	segment.Event = event
	if p.sessions.From6(&f, &session.Packet{Event: event, Now: p.now(), Segment: &segment}) != drop.None || f.Slot() == 0 {
		return m, false
	}
	if r.IntN(2) == 0 {
		back := f
		segment.HasAck, segment.Ack = true, segment.Seq+1
		p.sessions.From4(&back, &session.Packet{Event: event, Now: p.now(), Segment: &segment})
	}
	return mapping{f.Proto, f.Client, f.Mapped, f.Remote}, true
}

// TestEverySessionSurvives compares the sessions of a process that was killed with those of the next one.
func TestEverySessionSurvives(t *testing.T) {
	t.Parallel()
	path, r := memory(t), rand.New(rand.NewPCG(1, 2))
	p, _, saved := begin(t, path, conf, "1024-65535")
	if saved != ErrNone {
		t.Errorf("an empty directory: %v", saved)
	}
	for round := range 4 {
		for range 3000 {
			p.step(r)
		}
		addr := client(r).Addr[15]
		p.sessions.Purge(func(b bib.Binding) bool { return b.Client.Addr[15] < addr })
		p.bindings.Pool().Expire(p.now().Duration(), 1)
		before, heldBefore := p.all(), p.held()
		p.end()
		next, report, err := begin(t, path, conf, "1024-65535")
		if err != nil {
			t.Fatal(err)
		}
		after, heldAfter := next.all(), next.held()
		for at, left := range heldBefore {
			if off := left - heldAfter[at]; off > 2*time.Second || off < -time.Second {
				t.Fatalf("round %d: %v is held down for %v, then for %v", round, at, left, heldAfter[at])
			}
		}
		if len(heldAfter) != len(heldBefore) || report.Held != len(heldBefore) || len(heldBefore) == 0 {
			t.Errorf("round %d: %d ports are held down, then %d; %+v", round, len(heldBefore), len(heldAfter), report)
		}
		if len(after) != len(before) || report.Sessions != len(before) || len(report.Refused) != 0 {
			t.Fatalf("round %d: %d sessions, then %d; %+v", round, len(before), len(after), report)
		}
		for m, a := range before {
			b := after[m]
			if off := (a.Remaining - b.Remaining).Abs(); off > 2*time.Second {
				t.Errorf("%+v: %v remain, then %v", m, a.Remaining, b.Remaining)
			}
			a.Remaining, b.Remaining = 0, 0
			if a != b {
				t.Fatalf("round %d: the session\n%+v\nbecame\n%+v", round, a, b)
			}
		}
		p = next
	}
	p.end()
}

// TestRestoreAfterConfigChange covers changes of the configuration between two processes.
func TestRestoreAfterConfigChange(t *testing.T) {
	path, r := memory(t), rand.New(rand.NewPCG(3, 4))
	p, _, _ := begin(t, path, conf, "1024-65535")
	for range 3000 {
		p.step(r)
	}
	before := p.all()
	p.end()
	limited := conf
	limited.MaxPerClient, limited.MaxBindingsPerClient, limited.MaxPerBinding = 1, 1, 1
	p, report, err := begin(t, path, limited, "30000-65535")
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	want := 0
	for m := range before {
		if m.mapped.Port >= 30000 {
			want++
		}
	}
	if after := p.all(); len(after) != want || report.Refused[session.RefusedPool4.String()] != len(before)-want || len(report.Refused) != 1 {
		t.Errorf("%d sessions of %d, want %d; refused: %v", len(after), len(before), want, report.Refused)
	}
	p.epochs.Enter(0)
	defer p.epochs.Leave(0)
	f := session.Flow{Proto: packet.UDP, Client: client(r), Remote: remote(r)}
	f.Client.Port = 60000
	if why := p.sessions.From6(&f, &session.Packet{Now: p.now()}); why != drop.ClientSessions {
		t.Errorf("a new session of a client with more than it may have: %v", why)
	}
}

// TestRestoreBeyondMax restarts with a limit that is lower than the number of sessions: all are restored, and no new one begins.
func TestRestoreBeyondMax(t *testing.T) {
	path, r := memory(t), rand.New(rand.NewPCG(7, 8))
	p, _, _ := begin(t, path, conf, "1024-65535")
	for range 1000 {
		p.step(r)
	}
	before := len(p.all())
	p.end()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Saved(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Most(); n < before || n > 100*before {
		t.Errorf("room for %d sessions, want it for %d", n, before)
	}
	d.Close()
	limited := conf
	limited.Max = 10
	p, report, err := begin(t, path, limited, "1024-65535")
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	if report.Sessions != before || len(report.Refused) != 0 {
		t.Errorf("restored %d of %d sessions, refused %v", report.Sessions, before, report.Refused)
	}
	p.epochs.Enter(0)
	defer p.epochs.Leave(0)
	f := session.Flow{Proto: packet.UDP, Client: client(r), Remote: remote(r)}
	f.Client.Port = 60000
	if why := p.sessions.From6(&f, &session.Packet{Now: p.now()}); why != drop.SessionLimit {
		t.Errorf("a new session: %v", why)
	}
}

// copyOf copies what is valid in a state directory to another one.
func copyOf(t testing.TB, from, to string) {
	t.Helper()
	folder, err := os.Readlink(filepath.Join(from, current))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(to, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Join(from, folder))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(from, folder, e.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, "1", e.Name()), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("1", filepath.Join(to, current)); err != nil {
		t.Fatal(err)
	}
}

// history is every mapping that has ever existed.
type history struct {
	sync.Mutex
	seen map[mapping]bool
}

// live runs a process that makes and ends sessions until stop, and records them before their packets would leave.
func live(p *process, h *history, stop chan struct{}) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		h.Lock()
		if m, ok := p.step(r); ok {
			h.seen[m] = true
		}
		h.Unlock()
		if i%16 == 0 {
			addr := client(r).Addr
			p.sessions.Purge(func(b bib.Binding) bool { return b.Client.Addr == addr })
			time.Sleep(100 * time.Microsecond) // leave the processors to the restores
		}
	}
}

// TestNoWrongMapping restores thousands of copies that were made while packets flow, with random damage. Nothing panics, and each
// mapping that is accepted has existed.
func TestNoWrongMapping(t *testing.T) {
	t.Parallel()
	noWrongMapping(t, 30)
}

func noWrongMapping(t *testing.T, rounds int) {
	path, stop, done := memory(t), make(chan struct{}), make(chan struct{})
	p, _, _ := begin(t, path, conf, "1024-65535")
	h := &history{seen: map[mapping]bool{}}
	go func() { live(p, h, stop); close(done) }()
	r := rand.New(rand.NewPCG(7, 8))
	accepted, damaged, whole := 0, 0, 0
	for i := range rounds {
		to := memory(t)
		copyOf(t, path, to)
		if i > 0 {
			spoil(t, r, filepath.Join(to, "1"))
		}
		q, report, err := begin(t, to, conf, "1024-65535")
		if err != nil {
			whole++
		}
		h.Lock()
		for m := range q.all() {
			if accepted++; !h.seen[m] {
				t.Errorf("round %d: %+v never existed", i, m)
			}
		}
		h.Unlock()
		damaged += report.Refused[Damaged]
		q.end()
		os.RemoveAll(to)
	}
	close(stop)
	<-done
	p.end()
	t.Logf("%d mappings accepted, %d damaged entries, %d directories refused", accepted, damaged, whole)
	if accepted == 0 || damaged == 0 || whole == 0 {
		t.Error("the test did not cover all outcomes")
	}
}

// spoil damages the files of a folder at random: bits, torn pages and lengths.
func spoil(t *testing.T, r *rand.Rand, folder string) {
	names := slices.Sorted(maps.Keys(sizes))
	if r.IntN(8) == 0 {
		names = []string{"header", alive}
	}
	for range 1 + r.IntN(30) {
		path := filepath.Join(folder, names[r.IntN(len(names))])
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			continue
		}
		at := r.IntN(len(b))
		switch r.IntN(4) {
		case 0:
			b = b[:at]
		case 1: // a torn page: the file has an older one, or none
			clear(b[at&^4095 : min(at&^4095+4096, len(b))])
		case 2:
			copy(b[at&^31:], b[r.IntN(len(b))&^31:])
		default:
			b[at] ^= 1 << r.IntN(8)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRefusedWhole covers what makes a whole state useless, and what the refusal says.
func TestRefusedWhole(t *testing.T) {
	for name, x := range map[string]struct {
		change func(h *Header)
		want   string
	}{
		"boot":      {func(h *Header) { h.Boot = "another" }, "booted"},
		"namespace": {func(h *Header) { h.Namespace++ }, "network namespace"},
		"layout":    {func(h *Header) { h.Layout++ }, "layout 2"},
		"layout 0":  {func(h *Header) { h.Layout = 0 }, "layout 0"},
		"clock":     {func(h *Header) { h.Start = Monotonic() + time.Hour }, "damaged"},
		"size":      {func(h *Header) { h.Sizes = map[string]int{sessions: 31} }, "31 bytes"},
	} {
		path := memory(t)
		p, _, _ := begin(t, path, conf, "1024-65535")
		p.step(rand.New(rand.NewPCG(1, 1)))
		h := p.dir.header
		x.change(&h)
		b, _ := h.encode()
		if err := os.WriteFile(filepath.Join(path, "1", "header"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		p.end()
		q, _, err := begin(t, path, conf, "1024-65535")
		if err == nil || !strings.Contains(err.Error(), x.want) || len(q.all()) != 0 {
			t.Errorf("%s: %v", name, err)
		}
		q.end()
	}
}

// TestHugeFilesAreRefused covers files that are larger than memory: they are not read.
func TestHugeFilesAreRefused(t *testing.T) {
	for _, name := range []string{bindings, sessions + seals, held} {
		path := memory(t)
		p, _, _ := begin(t, path, conf, "1024-65535")
		p.end()
		if err := os.Truncate(filepath.Join(path, "1", name), 1<<40); err != nil {
			t.Fatal(err)
		}
		q, _, err := begin(t, path, conf, "1024-65535")
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		q.end()
	}
}

// TestCurrentIsNoLink covers a state directory in which something else has the name of the link.
func TestCurrentIsNoLink(t *testing.T) {
	path := memory(t)
	if err := os.MkdirAll(filepath.Join(path, current, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, _, err := begin(t, path, conf, "1024-65535")
	if !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	p.step(rand.New(rand.NewPCG(1, 1)))
	p.end()
	q, _, err := begin(t, path, conf, "1024-65535")
	if err != nil {
		t.Error(err)
	}
	q.end()
}

// TestTooOld covers a process that has been dead for too long, and one that has not.
func TestTooOld(t *testing.T) {
	path := memory(t)
	p, _, _ := begin(t, path, conf, "1024-65535")
	p.end()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if _, err := d.Saved(time.Minute); err != nil {
		t.Error(err)
	}
	stamp := binary.NativeEndian.AppendUint64(nil, uint64(p.start))
	if err := os.WriteFile(filepath.Join(path, "1", alive), stamp, 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Millisecond)
	if _, err := d.Saved(time.Millisecond); err == nil || !strings.Contains(err.Error(), "restore_max_age") {
		t.Error(err)
	}
}

// TestDirectories covers directories that cannot be used.
func TestDirectories(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "tmpfs") {
		t.Errorf("a directory on a disk: %v", err)
	}
	path := memory(t)
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another nat64d") {
		t.Errorf("a directory in use: %v", err)
	}
	d.Close()
	if err := os.Chmod(path, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "other user") {
		t.Errorf("a directory that all users can write to: %v", err)
	}
}

// TestCrashDuringStart kills a start before it has restored everything: the next one has everything.
func TestCrashDuringStart(t *testing.T) {
	path, r := memory(t), rand.New(rand.NewPCG(9, 10))
	p, _, _ := begin(t, path, conf, "1024-65535")
	for range 100 {
		p.step(r)
	}
	n := len(p.all())
	p.end()
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Begin(Header{Start: Monotonic()}); err != nil {
		t.Fatal(err)
	}
	d.Close()
	q, report, err := begin(t, path, conf, "1024-65535")
	if err != nil || report.Sessions != n {
		t.Errorf("%d sessions of %d: %v", report.Sessions, n, err)
	}
	q.end()
	if folders, _ := filepath.Glob(filepath.Join(path, "[0-9]*")); len(folders) != 1 {
		t.Errorf("folders %v remain", folders)
	}
}

// FuzzHeader: whatever is decoded is encoded again to the same.
func FuzzHeader(f *testing.F) {
	h := Header{Layout: Layout, Prefixes: prefixes, Sizes: sizes}
	b, _ := h.encode()
	f.Add(b)
	f.Add([]byte(magic + " 1 00000000\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		again, err := h.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeHeader(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// FuzzEntries restores files with any contents.
func FuzzEntries(f *testing.F) {
	f.Add(make([]byte, 96), make([]byte, 12), make([]byte, 96), make([]byte, 12), make([]byte, 32))
	f.Fuzz(func(t *testing.T, b, bs, s, ss, w []byte) {
		folder := t.TempDir()
		for name, content := range map[string][]byte{bindings: b, bindings + seals: bs, sessions: s, sessions + seals: ss, windows: w} {
			if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		e := table.NewEpochs(1)
		pool := pool4.New([16]byte{})
		tables := session.New(bib.New(pool, e, 100, [16]byte{}, nil), e, 100, nil, conf, nil)
		saved := Saved{folder: folder, Header: Header{Prefixes: prefixes}}
		if _, err := restore(saved.Restore(t.Context(), tables, 0, numberOf)); err != nil {
			t.Fatal(err)
		}
	})
}

// savedIn returns what a process has left, and keeps its directory locked.
func savedIn(t *testing.T, path string) *Saved {
	t.Helper()
	dir, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	saved, err := dir.Saved(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// TestActiveSessionsComeFirst restores in two parts, and stops between them.
func TestActiveSessionsComeFirst(t *testing.T) {
	t.Parallel()
	path := memory(t)
	p, _, _ := begin(t, path, conf, "1024-65535")
	open := func(port uint16, at table.Time) {
		f := session.Flow{Proto: packet.UDP, Client: packet.Endpoint6{Addr: packet.Addr6{0x20, 1, 0xd, 0xb8, 15: 1}, Port: port}, Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 443}}
		p.epochs.Enter(0)
		defer p.epochs.Leave(0)
		if r := p.sessions.From6(&f, &session.Packet{Now: at}); r != drop.None {
			t.Fatal(r)
		}
	}
	p.start -= 30 * time.Second // as if the process had run for a while
	if err := p.dir.Update(func(h *Header) { h.Start = p.start }); err != nil {
		t.Fatal(err)
	}
	open(1, p.now()-table.TimeOf(10*time.Second))
	open(2, p.now()-table.TimeOf(10*time.Second))
	open(3, p.now())
	p.dir.Alive()
	p.end()

	saved := savedIn(t, path)
	pool := pool4.New([16]byte{1})
	entries, err := pool4.ParseRange("192.0.2.1", "1024-65535")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pool.Add(entries); err != nil {
		t.Fatal(err)
	}
	epochs := table.NewEpochs(1)
	ctx, stop := context.WithCancel(t.Context())
	r := saved.Restore(ctx, session.New(bib.New(pool, epochs, 100, [16]byte{2}, nil), epochs, 100, nil, conf, nil), 0, numberOf)
	if err := r.First(); err != nil || r.Report().Sessions != 1 {
		t.Errorf("first: %+v, %v; want the session that had a packet lately", r.Report(), err)
	}
	stop()
	if err := r.Rest(); !errors.Is(err, context.Canceled) {
		t.Errorf("a restoration that was stopped returns %v", err)
	}
}

// A panic of a goroutine that restores is an error of First.
func TestRestorePanics(t *testing.T) {
	t.Parallel()
	path := memory(t)
	p, _, _ := begin(t, path, conf, "1024-65535")
	f := session.Flow{Proto: packet.UDP, Client: packet.Endpoint6{Addr: packet.Addr6{0x20, 1, 0xd, 0xb8, 15: 1}, Port: 1}, Remote: packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, 1}, Port: 443}}
	p.epochs.Enter(0)
	r := p.sessions.From6(&f, &session.Packet{Now: p.now()})
	p.epochs.Leave(0)
	if r != drop.None {
		t.Fatal(r)
	}
	p.dir.Alive()
	p.end()
	saved := savedIn(t, path)
	err := saved.Restore(t.Context(), nil, 0, numberOf).First() // a session table that is nil
	if !errors.Is(err, ErrPanicked) || !strings.Contains(err.Error(), "nil pointer") {
		t.Errorf("got %v, want ErrPanicked with the reason", err)
	}
}
