//go:build linux

package daemon

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"nat64d/gateway"
	"nat64d/ops/control"
	"nat64d/pool6"
)

// Our own choices: the time after which a worker counts as stuck, twice the longest wait for packets; how often the watchdog
// is fed within its limit; and how long the control socket may take to answer.
const (
	stuckWorker  = 10 * time.Second
	feedsInLimit = 3
	selfRequest  = 5 * time.Second
)

// stuck returns which goroutines of the data path do not go round.
func (d *Daemon) stuck() (why []string) {
	if time.Since(d.started) < stuckWorker {
		return nil // they have hardly begun
	}
	for _, name := range d.gateway.Stuck(stuckWorker) {
		why = append(why, fmt.Sprintf("%s has not gone round for more than %v", name, stuckWorker))
	}
	return why
}

// selfTest is the self-test at the start.
type selfTest struct {
	options gateway.Options
	ended   atomic.Bool
	err     error // valid when it has ended
}

// run makes the self-test. Its packets fit a prefix of 96 bits, so it does not use those of the configuration.
func (t *selfTest) run(context.Context) error {
	prefix, err := pool6.ParsePrefix("64:ff9b::/96")
	if err != nil {
		return err
	}
	sample := t.options.Config
	sample.Pool6, sample.Private = []pool6.Prefix{prefix}, nil
	t.err = gateway.SelfTest(sample, t.options)
	t.ended.Store(true)
	return nil
}

// notReady returns why the self-test has not succeeded.
func (t *selfTest) notReady() []string {
	switch {
	case !t.ended.Load():
		return []string{"the self-test has not ended"}
	case t.err != nil:
		return []string{t.err.Error()}
	}
	return nil
}

// feedWatchdog tells the service manager that the daemon works, as long as all workers and the maintenance go round and the
// control socket answers, until ctx is done. Without a watchdog it does nothing.
func (d *Daemon) feedWatchdog(ctx context.Context) error {
	limit, err := systemd.SdWatchdogEnabled(false)
	if err != nil || limit == 0 {
		return nil
	}
	every := limit / feedsInLimit
	timer := time.NewTimer(0)
	defer timer.Stop()
	for told := ""; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		why := strings.Join(append(d.stuck(), d.silent(ctx)...), "; ")
		switch {
		case why == "":
			_, _ = systemd.SdNotify(false, systemd.SdNotifyWatchdog)
		case why != told && ctx.Err() == nil:
			d.log.Error("not feeding the watchdog: the service manager will restart nat64d", "reason", why)
		}
		told = why
		timer.Reset(untilNext(every))
	}
}

// silent returns why the control socket does not answer.
func (d *Daemon) silent(ctx context.Context) []string {
	c := control.Client{Socket: d.config().Socket, Timeout: selfRequest}
	if _, err := c.Version(ctx); err != nil {
		return []string{"the control socket does not answer: " + err.Error()}
	}
	return nil
}
