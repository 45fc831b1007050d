package dns64

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Attempt is one query to one upstream.
type Attempt struct {
	Upstream string
	Name     string
	Type     string
	Outcome  string // answer of the upstream, or the reason without one
	Failed   bool   // there was no answer about the name
	Took     time.Duration
}

// trace records the queries to upstreams. A nil trace records nothing. Its methods may be called by any number of goroutines.
type trace struct {
	mu   sync.Mutex
	list []*Attempt
}

// traceKey is the key of a context's trace.
type traceKey struct{}

// begin records a query and returns a function that records its outcome.
func (t *trace) begin(u Upstream, q Question) func(m *dns.Msg, err error) {
	if t == nil {
		return func(*dns.Msg, error) {}
	}
	began := time.Now()
	a := &Attempt{Upstream: u.String(), Name: q.Name, Type: dns.Type(q.Type).String(), Outcome: "no answer yet", Failed: true}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, a)
	return func(m *dns.Msg, err error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		a.Took = time.Since(began)
		switch {
		case err != nil:
			a.Outcome = reason(err, a.Took)
		default:
			a.Outcome, a.Failed = dns.RcodeToString[m.Rcode], !conclusive(m.Rcode)
		}
	}
}

// attempts returns the recorded queries.
func (t *trace) attempts() (list []Attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range t.list {
		list = append(list, *a)
	}
	return slices.Clip(list)
}

// traceOf returns the trace of a context, or nil.
func traceOf(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

// reason returns for an operator why an upstream did not answer.
func reason(err error, took time.Duration) string {
	var errno syscall.Errno
	var timeout net.Error
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, context.Canceled):
		return "not waited for any longer"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer within %v", took.Round(100*time.Millisecond))
	}
	return strings.TrimPrefix(err.Error(), "dns64: ")
}
