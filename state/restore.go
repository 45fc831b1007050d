//go:build linux

package state

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/bib"
	"nat64d/pool4"
	"nat64d/session"
	"nat64d/table"
)

// Saved is what an earlier process has left in a state directory.
type Saved struct {
	Header Header
	Age    time.Duration // since that process was last alive
	folder string
}

// ErrNone means that no process has left anything.
var ErrNone = errors.New("there is no saved state")

// Saved returns what an earlier process has left, or an error that tells why it is of no use: another boot or network
// namespace, an unknown layout, damage, or an age of more than most. The files must stay until they are restored.
func (d *Dir) Saved(most time.Duration) (*Saved, error) {
	name := d.current()
	if name == "" {
		return nil, ErrNone
	}
	s := &Saved{folder: filepath.Join(d.path, name)}
	b, err := readBounded(filepath.Join(s.folder, "header"))
	if err != nil {
		return nil, err
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	switch s.Header = *h; {
	case h.Boot != bootID():
		return nil, errors.New("it is from before the machine was booted")
	case h.Namespace != namespace():
		return nil, errors.New("it is of another network namespace")
	}
	if s.Age, err = s.age(); err != nil {
		return nil, err
	}
	if err := s.checkSizes(); err != nil {
		return nil, err
	}
	if s.Age > most {
		return nil, fmt.Errorf("it is %v old, and state.restore_max_age is %v", s.Age.Round(time.Second), most)
	}
	return s, nil
}

// Most returns a number of sessions, and of bindings, that is not lower than what the process has left. s may be nil.
func (s *Saved) Most() (n int) {
	if s == nil {
		return 0
	}
	for name, size := range map[string]int{sessions: session.EntryLen, bindings: bib.EntryLen} {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(s.folder, name), &st) == nil {
			n = max(n, int(min(st.Size, st.Blocks*512))/size) // there may be holes
		}
	}
	return n
}

// mostBytes is the most that a file may have, twice what sessions.max at its highest takes.
const mostBytes = 8 << 30

// checkSizes returns an error if a file is larger than any process makes it: to read it would take long, or too much memory.
func (s *Saved) checkSizes() error {
	for name := range sizes {
		if info, err := os.Stat(filepath.Join(s.folder, name)); err == nil && info.Size() > mostBytes {
			return fmt.Errorf("its file %s has %d bytes: at most %d are possible", name, info.Size(), int64(mostBytes))
		}
	}
	return nil
}

// readBounded reads a file of a sensible size.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<20))
}

func (s *Saved) age() (time.Duration, error) {
	b, err := readBounded(filepath.Join(s.folder, alive))
	if err != nil || len(b) < aliveLen {
		return 0, errDamaged
	}
	now := Monotonic()
	last := time.Duration(binary.NativeEndian.Uint64(b))
	if last < s.Header.Start || last > now || s.Header.Start < 0 {
		return 0, errDamaged
	}
	return now - last, nil
}

// Report counts what a Restoration has done.
type Report struct {
	Sessions, Held int            // restored
	Refused        map[string]int // entries by the reason for which they were not
	Took           time.Duration
}

// Damaged is the reason in Report.Refused for entries whose parts do not belong together.
const Damaged = "damaged"

// lately is the time before the end of the earlier process in which a session had a packet if it is restored first: our own
// choice. Packets of such sessions wait already.
const lately = 2 * time.Second

// Restoration installs what an earlier process has left in the tables of another one. First and Rest are called once each, in this
// order, and use all processors. The tables must make no other session meanwhile, but packets may flow.
type Restoration struct {
	*Saved
	ctx       context.Context
	table     *session.Table
	now, then table.Time // on the clock of the tables, and on that of the earlier process
	lately    table.Time // on the clock of the earlier process
	number    func(netip.Prefix) (uint8, bool)
	took      time.Duration

	bindings, bindingSeals []byte
	sessions               atomic.Int64
	held                   int

	mu      sync.Mutex
	refused map[string]int // guarded by mu
}

// Restore returns the restoration to a table. number returns the number of a NAT64 prefix. now is the time of the table. When ctx
// is done, First and Rest return its error.
func (s *Saved) Restore(ctx context.Context, t *session.Table, now table.Time, number func(netip.Prefix) (uint8, bool)) *Restoration {
	r := &Restoration{Saved: s, ctx: ctx, table: t, now: now, number: number, refused: make(map[string]int)}
	then := Monotonic() - s.Header.Start
	r.then, r.lately = table.Time(then/table.Tick), table.Time(max(then-s.Age-lately, 0)/table.Tick)
	return r
}

// ErrPanicked is the error of First and Rest after a panic, which may have left a table half changed.
var ErrPanicked = errors.New("state: panic while restoring")

// caught recovers from a panic, when deferred, and sets err.
func caught(err *error) {
	if value := recover(); value != nil {
		*err = fmt.Errorf("%w: %v\n%s", ErrPanicked, value, debug.Stack())
	}
}

// First restores the sessions that had packets lately.
func (r *Restoration) First() (err error) {
	defer r.clock()()
	defer caught(&err)
	if r.bindings, err = r.whole(bindings); err != nil {
		return err
	}
	if r.bindingSeals, err = r.whole(bindings + seals); err != nil {
		return err
	}
	return r.restoreSessions(true)
}

// Rest restores the other sessions, and the ports in hold-down.
func (r *Restoration) Rest() (err error) {
	defer r.clock()()
	defer caught(&err)
	if err := r.restoreSessions(false); err != nil {
		return err
	}
	return r.restoreHeld()
}

// clock measures the time until the call of its result.
func (r *Restoration) clock() (stop func()) {
	began := time.Now()
	return func() { r.took += time.Since(began) }
}

// Report returns the counts of what First and Rest have done.
func (r *Restoration) Report() Report {
	return Report{Sessions: int(r.sessions.Load()), Held: r.held, Refused: r.refused, Took: r.took}
}

// whole reads a file. A file that is missing is empty.
func (r *Restoration) whole(name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(r.folder, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// binding returns the binding in a slot.
func (r *Restoration) binding(slot uint32) (k bib.Kept, ok bool) {
	at, seal := int(slot)*bib.EntryLen, int(slot)*sealLen
	if at+bib.EntryLen > len(r.bindings) || seal+sealLen > len(r.bindingSeals) {
		return k, false
	}
	return bib.ReadKept(slot, r.bindings[at:], binary.NativeEndian.Uint32(r.bindingSeals[seal:]))
}

// chunk is the number of sessions that a goroutine reads at a time.
const chunk = 1 << 12

// restoreSessions restores the sessions that had a packet lately, or all others. Each goroutine takes the next chunk of slots.
func (r *Restoration) restoreSessions(active bool) error {
	files, err := openAll(r.folder, sessions, sessions+seals, windows)
	if err != nil {
		return err
	}
	defer files.close()
	var next atomic.Uint32
	var group sync.WaitGroup
	errs := make([]error, runtime.GOMAXPROCS(0))
	for i := range errs {
		group.Go(func() {
			defer caught(&errs[i])
			c := newChunks(r, files, active)
			for done := false; !done && errs[i] == nil; {
				if done, errs[i] = c.restore((next.Add(1) - 1) * chunk); errs[i] == nil {
					errs[i] = r.ctx.Err()
				}
			}
			c.finish()
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// opened are files, nil where one is missing.
type opened []*os.File

func openAll(folder string, names ...string) (o opened, err error) {
	for _, name := range names {
		f, err := os.Open(filepath.Join(folder, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			o.close()
			return nil, err
		}
		o = append(o, f)
	}
	return o, nil
}

func (o opened) close() {
	for _, f := range o {
		if f != nil {
			_ = f.Close()
		}
	}
}

// chunks restores chunks of sessions, one after the other. It belongs to one goroutine.
type chunks struct {
	*Restoration
	files                   opened
	active                  bool
	entries, seals, windows []byte
	refused                 map[string]int
	kept                    session.Kept
	records                 []session.Record // decoded, but not restored yet
}

// atOnce is the number of sessions that are restored together.
const atOnce = 32

func newChunks(r *Restoration, o opened, active bool) *chunks {
	c := &chunks{Restoration: r, files: o, active: active, refused: make(map[string]int)}
	c.entries, c.seals, c.windows = make([]byte, chunk*session.EntryLen), make([]byte, chunk*sealLen), make([]byte, chunk*session.WindowsLen)
	c.kept.Binding = r.binding
	return c
}

// restore restores the sessions in the slots from first on, and reports whether the file has no more.
func (c *chunks) restore(first uint32) (done bool, err error) {
	n, err := readAt(c.files[0], c.entries, int(first)*session.EntryLen)
	if err != nil || n < session.EntryLen {
		return true, err
	}
	m, err := readAt(c.files[1], c.seals, int(first)*sealLen)
	if err != nil {
		return true, err
	}
	w, err := readAt(c.files[2], c.windows, int(first)*session.WindowsLen)
	if err != nil {
		return true, err
	}
	for i := range min(n/session.EntryLen, m/sealLen) {
		c.kept.Slot, c.kept.Entry = first+uint32(i), c.entries[i*session.EntryLen:][:session.EntryLen]
		if c.kept.ActiveSince(c.lately) != c.active {
			continue
		}
		c.kept.Seal = binary.NativeEndian.Uint32(c.seals[i*sealLen:])
		c.kept.Windows = nil
		if at := i * session.WindowsLen; at+session.WindowsLen <= w {
			c.kept.Windows = c.windows[at:][:session.WindowsLen]
		}
		c.decode()
	}
	c.restoreDecoded()
	return false, nil
}

// readAt fills b from a place in a file, and returns how many bytes there are. A hole, which the tables have given back,
// reads as zeros without taking memory, unlike in a mapping.
func readAt(f *os.File, b []byte, at int) (n int, err error) {
	if f == nil {
		return 0, nil
	}
	if n, err = f.ReadAt(b, int64(at)); errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// decode decodes the session c.kept.
func (c *chunks) decode() {
	n := len(c.records)
	c.records = append(c.records, session.Record{})
	switch c.table.ReadKept(&c.kept, &c.records[n], c.then, c.Header.prefix) {
	case session.KeptNothing:
		c.records = c.records[:n]
	case session.KeptDamaged:
		c.records = c.records[:n]
		c.refused[Damaged]++
	default:
		if n+1 == atOnce {
			c.restoreDecoded()
		}
	}
}

// restoreDecoded restores the decoded sessions.
func (c *chunks) restoreDecoded() {
	c.table.RestoreSessions(c.records, c.now, c.number, c.count)
	c.records = c.records[:0]
}

func (c *chunks) count(err error) {
	if err == nil {
		c.sessions.Add(1)
		return
	}
	c.refused[err.(session.Refusal).String()]++
}

// finish adds the counts of the chunks.
func (c *chunks) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for why, n := range c.refused {
		c.Restoration.refused[why] += n
	}
}

// restoreHeld restores the ports in hold-down, those first that have been held the longest.
func (r *Restoration) restoreHeld() error {
	b, err := r.whole(held)
	if err != nil {
		return err
	}
	var ports []session.Record
	for ; len(b) >= pool4.HeldLen; b = b[pool4.HeldLen:] {
		if h, ok := r.table.ReadHeld(b, r.then); ok {
			ports = append(ports, h)
		}
	}
	slices.SortStableFunc(ports, func(a, b session.Record) int { return cmp.Compare(a.Remaining, b.Remaining) })
	for i := range ports {
		if err := r.table.Restore(&ports[i], r.now, r.number); err != nil {
			r.refused[err.(session.Refusal).String()]++
			continue
		}
		r.held++
	}
	return nil
}
