//go:build linux

package daemon

import (
	"log/slog"
	"math"
	"testing"
	"testing/fstest"
	"time"
)

func TestCgroupLimitIsTheLowestOfThePath(t *testing.T) {
	root := fstest.MapFS{
		"memory.max":                               {Data: []byte("max\n")},
		"system.slice/memory.max":                  {Data: []byte("1000000\n")},
		"system.slice/nat64d.service/memory.max":   {Data: []byte("2000000\n")},
		"user.slice/memory.max":                    {Data: []byte("3000\n")},
		"memory/memory.limit_in_bytes":             {Data: []byte("9223372036854771712\n")},
		"memory/docker/abc/memory.limit_in_bytes":  {Data: []byte("500000\n")},
		"memory/docker/deep/memory.limit_in_bytes": {Data: []byte("-1\n")},
	}
	for _, c := range []struct {
		groups string
		want   int64
	}{
		{"0::/system.slice/nat64d.service\n", 1000000},
		{"0::/\n", math.MaxInt64},
		{"0::/gone\n", math.MaxInt64},
		{"0::/../user.slice\n", 3000}, // as in a cgroup namespace
		{"12:cpu:/user.slice\n7:hugetlb,memory:/docker/abc\n0::/\n", 500000},
		{"7:memory:/docker/deep\n", 9223372036854771712},
		{"", math.MaxInt64},
		{"nonsense", math.MaxInt64},
	} {
		if got := cgroupLimit(root, c.groups); got != c.want {
			t.Errorf("%q: %d, want %d", c.groups, got, c.want)
		}
	}
}

func TestFloodEndsOnce(t *testing.T) {
	var f flood
	start := time.Unix(0, 0)
	for i, c := range []struct {
		seconds, sessions int
		want              bool
	}{
		{0, 10, false}, {100, floodSessions, false}, {200, floodSessions / 2, false}, {300, 5, false}, {329, 5, false}, {330, 5, true},
		{400, 5, false}, {500, 2 * floodSessions, false}, {501, 0, false}, {502, floodSessions, false}, {540, 0, false}, {570, 0, true},
	} {
		if got := f.ended(c.sessions, start.Add(time.Duration(c.seconds)*time.Second)); got != c.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

func TestMemoryIsScarceNearTheLimit(t *testing.T) {
	m, err := newMemory(0, 1<<40, func() int { return 3 }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer m.configure(0)
	if s := m.status(); !s.Auto || s.Limit < 1<<20 || s.Used < 1<<20 {
		t.Errorf("auto: %+v", s)
	}
	used := int(m.used())
	for _, step := range []struct {
		limit int
		want  bool
	}{
		{100 * used, false},
		{used + 15<<20, true},
		{used + 17<<20, true}, // between the thresholds
		{100 * used, false},
	} {
		m.configure(step.limit)
		if got := m.scarce(); got != step.want {
			t.Errorf("%d bytes of %d in use: scarce %v", used, step.limit, got)
		}
	}
	if s := m.status(); s.Limit != int64(100*used) || s.Auto || s.Scarce || s.Sessions < 3+80*used/perSession || s.Sessions > 3+100*used/perSession {
		t.Errorf("status %+v", s)
	}
}
