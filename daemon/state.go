//go:build linux

package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/pool6"
	"nat64d/state"
	"nat64d/table"
)

// keeping is what outlives the process: the state directory, and what this start has restored from it.
type keeping struct {
	opened *state.Dir // locked; nil: there is none
	dir    *state.Dir // for the tables of this process; nil: nothing outlives it
	why    string     // for that, or for a start without sessions
	saved  *state.Saved
	loaded state.Lists                  // as the configuration said
	report atomic.Pointer[state.Report] // nil: nothing was restored, or not all yet

	restoration *state.Restoration // under way
	err         error              // of its first part

	failed atomic.Pointer[error] // why the state of this process is not valid; nil: it is, or will be
}

// openState locks the state directory and reads what an earlier process has left. A directory that the operator has chosen must
// be usable; with the default, the gateway runs without.
func (d *Daemon) openState(c *config.Config) error {
	if !c.State.Save {
		d.kept.why = "state.save is false"
		return nil
	}
	dir, err := state.Open(c.State.Dir)
	if err != nil {
		if c.State.Dir != config.DefaultStateDir {
			return fmt.Errorf("state.dir: %w", err)
		}
		d.kept.why = err.Error()
		return nil
	}
	d.kept.opened, d.kept.dir = dir, dir
	if d.options.Fresh {
		d.kept.why = "started with --fresh"
		return dir.Discard()
	}
	if d.kept.saved, err = dir.Saved(c.State.RestoreMaxAge); err != nil {
		d.kept.why = err.Error()
		if errors.Is(err, state.ErrNone) {
			return nil
		}
		d.log.Warn("starting without the sessions of before: the saved state is of no use", "dir", c.State.Dir, "reason", err)
		return dir.Discard()
	}
	return nil
}

// lists returns the lists of a configuration.
func lists(c *config.Config) state.Lists {
	return state.Lists{Pool6: prefixesOf(c.Pool6), Pool4: merged(c.Pool4), Followed: c.Followed, Static: staticOf(expand(c.Bindings))}
}

func prefixesOf(ps []pool6.Prefix) []netip.Prefix {
	all := make([]netip.Prefix, len(ps))
	for i := range ps {
		all[i] = ps[i].Prefix()
	}
	return all
}

func staticOf(rs rows) []state.Static {
	all := make([]state.Static, 0, len(rs))
	for _, e := range slices.SortedFunc(maps.Keys(rs), pool4.Entry.Compare) {
		all = append(all, state.Static{Mapped: e, Client: rs[e]})
	}
	return all
}

func rowsOf(all []state.Static) rows {
	rs := make(rows, len(all))
	for _, s := range all {
		rs[s.Mapped] = s.Client
	}
	return rs
}

// resumed are the lists of a configuration with the changes that an earlier process has made to its lists at run time. The
// entries that the configuration has now and that process did not load are new.
type resumed struct {
	conf     *config.Config // with the prefixes
	ranges   []pool4.Entry
	followed []pool4.Followed // rows of interfaces
	static   rows             // of the configuration
	added    rows             // static rows that were added at run time
	checked  []pool4.Entry    // what may harm the host: added at run time, perhaps by force, or guarded until now
}

// resumeLists applies the changes of an earlier process to the lists of c.
func (d *Daemon) resumeLists(c *config.Config) resumed {
	r := resumed{conf: c, ranges: c.Pool4, followed: c.Followed, static: expand(c.Bindings)}
	if d.kept.saved == nil {
		return r
	}
	h := &d.kept.saved.Header
	loaded, then := &h.Loaded, &h.Current
	r.conf = resumePrefixes(c, loaded.Pool6, then.Pool6)
	r.ranges = merged(append(minus(c.Pool4, minus(loaded.Pool4, then.Pool4)), minus(then.Pool4, loaded.Pool4)...))
	r.followed = changed(c.Followed, loaded.Followed, then.Followed)
	before, after := rowsOf(loaded.Static), rowsOf(then.Static)
	for e := range before.minus(after) {
		delete(r.static, e)
	}
	r.added = after.minus(before)
	r.checked = append(mapped(r.added), minus(then.Pool4, loaded.Pool4)...)
	if !h.Released {
		r.checked = append(mapped(after), then.Pool4...)
		for _, f := range h.Followed {
			r.checked = append(r.checked, f.Entry)
		}
	}
	return r
}

// resumeRowsLocked binds the static rows that were added at run time, except those that the configuration contradicts now. The
// caller holds d.admin, unless nothing runs yet.
func (d *Daemon) resumeRowsLocked(added rows) {
	for e, client := range added {
		if d.admin.static[e] == client {
			continue
		}
		if err := d.bindLocked(rows{e: client}, true); err != nil {
			d.log.Warn("cannot restore a static binding that was added at run time", "protocol", e.Proto, "mapped", endpoint4(e), "client", client, "error", err)
		}
	}
}

// resumePrefixes adds and removes the prefixes that were added and removed at run time. It skips a change that is no longer possible.
func resumePrefixes(c *config.Config, loaded, then []netip.Prefix) *config.Config {
	change := func(list, other []netip.Prefix, with func(*config.Config, string) (*config.Config, error)) {
		for _, p := range list {
			if slices.Contains(other, p) {
				continue
			}
			if next, err := with(c, p.String()); err == nil {
				c = next
			}
		}
	}
	change(then, loaded, (*config.Config).WithPool6)
	change(loaded, then, (*config.Config).WithoutPool6)
	return c
}

// beginState makes the files for the tables of this process. Without room for them, nothing outlives the process, but it restores
// what the earlier one has left.
func (d *Daemon) beginState(start time.Duration, loaded state.Lists) {
	d.kept.loaded = loaded
	if d.kept.dir == nil {
		return
	}
	if err := d.kept.dir.Begin(state.Header{Version: d.options.Version.Version, Start: start, Loaded: loaded}); err != nil {
		d.abandonState(err)
	}
}

// abandonState records that nothing outlives this process, before its tasks run.
func (d *Daemon) abandonState(err error) {
	d.kept.why, d.kept.dir = err.Error(), nil
	d.log.Warn("cannot save the state of this process: its sessions will end with it", "error", err)
}

// keepHeld keeps the ports in hold-down: all of pool4 at present, for UDP and ICMP, and some more.
func (d *Daemon) keepHeld() {
	if d.kept.dir == nil {
		return
	}
	ports := 0
	for _, e := range d.pool.Entries() {
		if e.Proto != packet.TCP {
			ports += portCount(e)
		}
	}
	d.pool.KeepHeld(d.kept.dir.HeldPieces(ports*pool4.HeldLen/pool4.PieceLen + 64))
}

// tableFiles returns the files of the tables, or nil.
func (d *Daemon) tableFiles() table.Files {
	if d.kept.dir == nil {
		return nil
	}
	return d.kept.dir
}

// aliveHook returns the function that notes that the process is alive, or nil.
func (d *Daemon) aliveHook() func() {
	if d.kept.dir == nil {
		return nil
	}
	return d.kept.dir.Alive
}

// restoreFirst records the lists of this process, and restores the sessions whose packets wait in the ports already. The tables make no
// others until the task "restore" has restored the rest, while packets flow.
func (d *Daemon) restoreFirst(ctx context.Context) {
	k := &d.kept
	if err := d.saveListsLocked(); err != nil {
		d.abandonState(err)
	}
	if k.saved == nil {
		if err := k.commit(); err != nil {
			d.abandonState(err)
		}
		return
	}
	d.gateway.Sessions.SetRestoring(true)
	k.restoration = k.saved.Restore(ctx, d.gateway.Sessions, d.gateway.Now(), d.gateway.PrefixNumber)
	k.err = k.restoration.First()
	k.endIfPanicked(k.err)
}

// commit makes the state of this process valid. If there is none, that of the earlier process is not valid any more either.
func (k *keeping) commit() error {
	switch {
	case k.opened == nil:
		return nil
	case k.dir == nil:
		return k.opened.Discard()
	}
	return k.dir.Commit()
}

// endIfPanicked ends the process at once if restoring has panicked, since a table may be half changed. The next start is empty:
// otherwise it would panic again.
func (k *keeping) endIfPanicked(err error) {
	if errors.Is(err, state.ErrPanicked) {
		_ = k.opened.Discard() // if it fails, restore_max_age ends the repetition
		endAtOnce(err.Error())
	}
}

// restore restores the rest, and makes the state of this process valid. A stop in between leaves that of the earlier process
// valid. It also returns the garbage of the start to the kernel.
func (d *Daemon) restore(ctx context.Context) error {
	defer debug.FreeOSMemory()
	k := &d.kept
	if k.restoration == nil || k.report.Load() != nil {
		return nil
	}
	err := errors.Join(k.err, k.restoration.Rest())
	k.endIfPanicked(err)
	if ctx.Err() != nil {
		return nil
	}
	r := k.restoration.Report()
	k.restoration = nil
	d.endResumed()
	k.report.Store(&r)
	d.events.routes.signal() // followAddressesLocked waits for the report
	d.gateway.Sessions.SetRestoring(false)
	if err != nil {
		d.log.Error("cannot read the whole saved state: some sessions of before are lost", "error", err)
	}
	d.log.Info("restored sessions", slices.Concat([]any{"sessions", r.Sessions, "held_ports", r.Held,
		"from", k.saved.Header.Version, "age", k.saved.Age.Round(time.Millisecond), "took", r.Took.Round(time.Microsecond)}, refusals(r))...)
	if err := k.commit(); err != nil {
		k.failed.Store(&err)
		d.log.Error("cannot save the state of this process: its sessions will end with it", "error", err)
	}
	return nil
}

// restoring returns that the sessions of the earlier process are not all restored yet.
func (d *Daemon) restoring() []string {
	if k := &d.kept; k.saved == nil || k.report.Load() != nil {
		return nil
	}
	return []string{"the sessions of the earlier process are being restored: new ones are refused until then"}
}

// refusals returns the attributes of a report for the log.
func refusals(r state.Report) (attrs []any) {
	for _, why := range slices.Sorted(maps.Keys(r.Refused)) {
		attrs = append(attrs, slog.Int("refused_"+strings.ReplaceAll(why, " ", "_"), r.Refused[why]))
	}
	return attrs
}

// saveListsLocked records pool4, pool6 and the static rows after a change. The caller holds d.admin, unless nothing runs yet.
func (d *Daemon) saveListsLocked() error {
	if d.kept.dir == nil {
		return nil
	}
	return d.kept.dir.Update(func(h *state.Header) {
		h.Prefixes = prefixesOf(d.gateway.Prefixes())
		h.Kernel = d.ports.screens.Learned()
		h.Loaded = d.kept.loaded
		f := d.followed()
		h.Current = state.Lists{Pool6: prefixesOf(d.config().Pool6), Pool4: d.listedLocked(), Followed: f.rows, Static: staticOf(d.admin.static)}
		h.Followed = f.savedFollowed()
	})
}

// endGuard removes the guard, or leaves it to the next process for some time, and records which of both.
func (d *Daemon) endGuard(handover time.Duration) error {
	if d.kept.dir != nil {
		_ = d.kept.dir.Update(func(h *state.Header) { h.Released = handover == 0 }) // without room, the next start only refuses no port
	}
	return d.guard.end(handover)
}

// closeState gives the lock on the state directory back. The state stays for the next process.
func (d *Daemon) closeState() {
	if d.kept.dir != nil {
		d.kept.dir.Alive()
	}
	if d.kept.opened != nil {
		_ = d.kept.opened.Close()
	}
}

// keptStatus describes what outlives the process.
func (d *Daemon) keptStatus() control.Kept {
	k := &d.kept
	report := k.report.Load()
	s := control.Kept{Why: k.why, Restored: report != nil}
	if k.dir != nil {
		switch failed := k.failed.Load(); {
		case failed != nil:
			s.Why = (*failed).Error()
		case !d.gateway.Bindings.Kept() || !d.gateway.Sessions.Kept():
			s.Why = "cannot create its files in " + d.config().State.Dir
		default:
			s.Dir = d.config().State.Dir
			s.Unkept = int(d.gateway.Bindings.Unkept() + d.gateway.Sessions.Unkept())
		}
	}
	if report != nil {
		s.Sessions, s.HeldPorts, s.Refused = report.Sessions, report.Held, report.Refused
		s.Age, s.Took, s.From = control.Seconds(k.saved.Age), control.Seconds(report.Took), k.saved.Header.Version
	}
	return s
}
