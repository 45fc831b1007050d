//go:build linux

package daemon

import (
	"fmt"
	"slices"

	"nat64d/ops/control"
	"nat64d/pool4"
)

// addFollowed adds rows that stand for the address of an interface.
func (b *backend) addFollowed(rows []pool4.Followed, force bool) (r control.Pool4Result, err error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	f := b.followed()
	next, err := f.withRows(append(slices.Clone(f.rows), rows...), b.routes)
	if err != nil {
		return r, err
	}
	come := minus(next.entries(), b.pool.Entries())
	if err := b.guard.refuse(come, force); err != nil {
		return r, err
	}
	if err := b.coverMoreLocked(additions{pool4: come}, b.admin.local.bypass); err != nil {
		return r, fmt.Errorf("nothing was added: %w", err)
	}
	b.holdLocked(next, false)
	for _, row := range rows {
		if slices.Contains(f.rows, row) {
			continue
		}
		r.Added = append(r.Added, next.rowRange(row))
		if _, err := addressOf(b.routes, row.Interface); err != nil && !slices.Contains(r.Warnings, err.Error()) {
			r.Warnings = append(r.Warnings, err.Error())
		}
	}
	if warning := b.settledLocked(); warning != nil {
		r.Warnings = append(r.Warnings, warning.Error())
	}
	return r, nil
}

// removeFollowed removes those of the rows that exist, with any ports if anyPorts is true.
func (b *backend) removeFollowed(rows []pool4.Followed, anyPorts bool) (r control.Pool4Result, err error) {
	b.admin.Lock()
	defer b.admin.Unlock()
	f := b.followed()
	goes := func(have pool4.Followed) bool {
		return slices.ContainsFunc(rows, func(row pool4.Followed) bool {
			return row == have || anyPorts && row.Interface == have.Interface && row.Proto == have.Proto
		})
	}
	rest := slices.DeleteFunc(slices.Clone(f.rows), goes)
	if len(rest) == len(f.rows) {
		return r, fmt.Errorf("pool4: %v is no row of pool4: nat64ctl pool4 list shows the rows", rows[0])
	}
	next, err := f.withRows(rest, b.routes)
	if err != nil {
		return r, err
	}
	b.holdLocked(next, false)
	r, err = b.removed(nil)
	for _, row := range f.rows {
		if goes(row) {
			r.Removed = append(r.Removed, f.rowRange(row))
		}
	}
	return r, err
}

// rowRange returns the range that a row stands for, without an address if its interface has none.
func (f *following) rowRange(row pool4.Followed) control.Pool4Range {
	r := pool4Range(row.Entry(f.at[row.Interface], f.above))
	r.Interface = row.Interface
	return r
}

// followedEntries returns the rows whose interface has no address, and the ranges of earlier addresses.
func (b *backend) followedEntries() (es []control.Pool4Entry) {
	f := b.followed()
	for _, row := range f.rows {
		if _, ok := f.at[row.Interface]; !ok {
			es = append(es, control.Pool4Entry{Pool4Range: f.rowRange(row), State: "waiting"})
		}
	}
	for _, e := range f.ending {
		used, _ := b.pool.UseOf(e.Entry)
		r := pool4Range(e.Entry)
		r.Interface = e.Interface
		es = append(es, control.Pool4Entry{Pool4Range: r, Used: used, State: "ending"})
	}
	return es
}

// refuseFollowed returns an error if a range is in pool4 as the address of an interface, which would come back at once.
func (b *backend) refuseFollowed(wanted []pool4.Entry) error {
	f := b.followed()
	for _, e := range wanted {
		if name := f.source(e); name != "" {
			return fmt.Errorf("pool4: %v is in pool4 as the address of %s: remove interface:%s instead", e, name, name)
		}
	}
	return nil
}
