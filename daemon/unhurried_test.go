//go:build linux

package daemon

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnhurried(t *testing.T) {
	t.Parallel()
	before, _ := unix.Getpriority(unix.PRIO_PROCESS, 0)
	mine, during := errors.New("mine"), 0
	err := unhurried(func() error {
		during, _ = unix.Getpriority(unix.PRIO_PROCESS, 0)
		return mine
	})
	if !errors.Is(err, mine) || 20-during != listingNice { // the system call returns 20 less the nice value
		t.Errorf("%v, nice value %d", err, 20-during)
	}
	if after, _ := unix.Getpriority(unix.PRIO_PROCESS, 0); after != before {
		t.Errorf("the priority of the caller has changed from %d to %d", before, after)
	}
	defer func() {
		if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "boom\n") || !strings.Contains(text, "TestUnhurried") {
			t.Errorf("the panic is %q", text)
		}
	}()
	_ = unhurried(func() error { panic("boom") })
}
