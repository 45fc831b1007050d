//go:build linux

package guard_test

import (
	"strings"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/linux/guard"
)

// elements returns the covered addresses in the guard's sets.
func elements(t *testing.T, l *lab.Lab) string {
	t.Helper()
	return run(t, l, "nft", "list", "set", "netdev", "nat64d", "pool4") + run(t, l, "nft", "list", "set", "netdev", "nat64d", "pool6")
}

func TestLeaveExpires(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	do(t, l, func() error { return g.Leave(1500 * time.Millisecond) })
	if answers(t, l, "7001") {
		t.Error("the host answers during the handover")
	}
	if out := elements(t, l); strings.Count(out, "expires") != 3 {
		t.Errorf("not all elements have a timeout:\n%s", out)
	}
	for deadline := time.Now().Add(5 * time.Second); !answers(t, l, "7001"); {
		if time.Now().After(deadline) {
			t.Fatal("the host does not answer after the handover:\n", elements(t, l))
		}
	}
	do(t, l, guard.New(options(l)).Remove)
	if got := reserved(t, l); got != "" {
		t.Errorf("ports %s stay reserved", got)
	}
}

// The next process makes the elements permanent, while a probe never gets a reset.
func TestApplyTakesOverAfterLeave(t *testing.T) {
	t.Parallel()
	l := network(t)
	first, second := guard.New(options(l)), guard.New(options(l))
	apply(t, l, first, entries(t, lab.Gateway4, "7000-8000"))
	do(t, l, func() error { return first.Leave(time.Minute) })
	apply(t, l, second, entries(t, lab.Gateway4, "7000-8100"))
	out := elements(t, l)
	if strings.Contains(out, "expires") || !strings.Contains(out, "7000-8100") || !strings.Contains(out, "64:ff9b::/96") {
		t.Errorf("the elements are not permanent:\n%s", out)
	}
	if damage := check(t, l, second); damage != "" {
		t.Errorf("Check repairs a table that was taken over: %s", damage)
	}
	if answers(t, l, "7001") {
		t.Error("the host answers after the takeover")
	}
	do(t, l, second.Remove)
	if out := run(t, l, "nft", "list", "ruleset"); out != "" {
		t.Errorf("after Remove the ruleset is\n%s", out)
	}
}

func TestLeaveForNoTimeRemoves(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	apply(t, l, g, entries(t, lab.Gateway4, "7000-8000"))
	do(t, l, func() error { return g.Leave(0) })
	if out := run(t, l, "nft", "list", "ruleset"); out != "" {
		t.Errorf("after Leave(0) the ruleset is\n%s", out)
	}
}
