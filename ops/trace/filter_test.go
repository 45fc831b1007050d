package trace_test

import (
	"strings"
	"testing"

	"nat64d/ops/trace"
)

func TestFilterRefusesContradictions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		options trace.Options
		want    string // of the error; empty: none
	}{
		{trace.Options{Protocols: []string{"tcp", "icmp"}, Reasons: []string{"no_route", "stored_syn"}, Drops: true}, ""},
		{trace.Options{Reasons: []string{"not_pool6"}}, ""},
		{trace.Options{Reasons: []string{"not_pool6"}, Drops: true}, "left to the host, not dropped"},
		{trace.Options{Reasons: []string{"no_rout"}}, "such as pool_exhausted"},
		{trace.Options{Protocols: []string{"sctp"}}, "use tcp, udp or icmp"},
	} {
		_, err := c.options.Filter()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.options, err, c.want)
		}
	}
}
