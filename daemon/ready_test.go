//go:build linux

package daemon

import (
	"testing"
	"time"
)

func TestNextLookIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ wait, took, want time.Duration }{
		{lookAtStart, time.Microsecond, lookAtStart},
		{lookAtStart, 2 * time.Millisecond, 200 * time.Millisecond},
		{lookAtReady, 2 * time.Millisecond, lookAtReady},
		{lookAtStart, 300 * time.Millisecond, lookAtMost}, // without a processor for most of it
	} {
		if got := nextLook(c.wait, c.took); got != c.want {
			t.Errorf("after a check of %v, the next one is due in %v, want %v", c.took, got, c.want)
		}
	}
}
