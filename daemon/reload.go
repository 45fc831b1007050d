//go:build linux

package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"nat64d/config"
)

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
func (d *Daemon) reload() ([]config.Change, error) {
	d.admin.Lock() // before reading, so that a concurrent change with --persist is not reverted
	defer d.admin.Unlock()
	next, err := d.options.load()
	if err != nil {
		return nil, fmt.Errorf("the configuration stays as it is: %w", err)
	}
	changes := config.Diff(d.config(), next)
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
