//go:build linux

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"nat64d/config"
)

// reloads remembers the result of the last reading of the configuration.
type reloads struct {
	failed atomic.Bool
	at     atomic.Int64 // when the last one succeeded, in nanoseconds since 1970
}

func (r *reloads) note(err error) {
	if r.failed.Store(err != nil); err == nil {
		r.at.Store(time.Now().UnixNano())
	}
}

// reloadOnRequest reads the configuration again after each call of Reload.
func (d *Daemon) reloadOnRequest(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.reload:
		}
		if _, err := d.reload(); err != nil {
			d.log.Error(err.Error())
		}
	}
}

// reload reads the configuration again and applies the differences.
func (d *Daemon) reload() (changes []config.Change, err error) {
	defer func() { d.reloads.note(err) }()
	d.admin.Lock() // before reading, so that a concurrent change with --persist is not reverted
	defer d.admin.Unlock()
	next, err := d.options.load()
	if err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	changes = config.Diff(d.config(), next)
	for _, c := range changes {
		if !c.Live {
			return nil, fmt.Errorf("the configuration is unchanged: %s changed from %s to %s, which needs a restart", c.Name, c.Old, c.New)
		}
	}
	if err := d.changeLocked(next); err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	d.kept.loaded = lists(next)
	logChanges(d.log.Logger, changes)
	return changes, nil
}

func logChanges(log *slog.Logger, changes []config.Change) {
	for _, c := range changes {
		log.Info("configuration changed", "key", c.Name, "old", c.Old, "new", c.New)
	}
}
