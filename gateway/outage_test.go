package gateway

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"nat64d/metrics"
)

// TestAnOutageIsToldOnce, not by every worker, with each reason why it lasts.
func TestAnOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	answers := []error{nil, nil, first, first, second, nil, nil} // of opening the ports to receive from
	var said bytes.Buffer
	g := stillWith(t, func(o *Options) {
		o.Workers, o.Log = 2, slog.New(slog.NewTextHandler(&said, nil))
		o.Open = func(s Side, send bool) (Port, error) {
			if send || s == V4 {
				return &nowhere{}, nil
			}
			err := answers[0]
			if answers = answers[1:]; err != nil {
				return nil, err
			}
			return &nowhere{}, nil
		}
	})
	for _, w := range g.workers[:2] {
		w.lose(errors.New("unplugged"))
	}
	for _, w := range g.workers[:2] {
		for !w.reopen(t.Context()) {
		}
	}
	if n := g.Counters.Event(metrics.Reopened); n != 1 {
		t.Errorf("the NIC came back %d times", n)
	}
	for _, words := range []string{"lost the NIC", "error=first", "error=second", "is back"} {
		if n := strings.Count(said.String(), words); n != 1 {
			t.Errorf("%q is said %d times in\n%s", words, n, &said)
		}
	}
}
