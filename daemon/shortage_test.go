//go:build linux

package daemon

import (
	"strings"
	"testing"
	"time"
)

// The status shows the shortage for an hour after the last port, and the log contains the first one of such a time.
func TestShortageOfPorts(t *testing.T) {
	t.Parallel()
	var s shortage
	begin := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for _, step := range []struct {
		minute       int
		n            uint64
		logs, status bool
	}{
		{0, 0, false, false},
		{1, 3, true, true},
		{50, 4, false, true},
		{109, 4, false, true},
		{110, 4, false, false},
		{111, 5, true, true},
	} {
		now := begin.Add(time.Duration(step.minute) * time.Minute)
		text := s.look(step.n, now)
		if logs := text != ""; logs != step.logs {
			t.Errorf("minute %d: logged %q", step.minute, text)
		}
		if w := s.warnings(now); (len(w) == 1) != step.status {
			t.Errorf("minute %d: warnings %q", step.minute, w)
		}
	}
	if w := s.warnings(begin.Add(2 * time.Hour)); len(w) != 1 || !strings.Contains(w[0], "5 ports") || !strings.Contains(w[0], "last at 2026-11-30 13:51:00") {
		t.Errorf("%q", w)
	}
}
