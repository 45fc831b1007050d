package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// line is one line of a listing; exactly one of the fields is set.
type line[T any] struct {
	Item  *T     `json:"item,omitempty"`
	End   *end   `json:"end,omitempty"`   // the last line of a complete listing
	Error *Error `json:"error,omitempty"` // the last line of a listing that failed
}

type end struct {
	Count int `json:"count"` // number of items
}

// streamBuffer collects lines, so that a listing needs few system calls.
const streamBuffer = 64 << 10

// listingTime is the context key of the time limit for a listing.
type listingTime struct{}

var errLimit = errors.New("limit reached")

// The parameters of filters.
var (
	bindingFilters = []string{"protocol", "client", "mapped", "port"}
	sessionFilters = []string{"protocol", "client", "peer", "mapped", "port", "state", "older"}
)

// walk calls yield for the entries of a table that a filter selects.
type walk[T any] func(b Backend, ctx context.Context, f Filter, yield func(T) error) error

// ordered calls yield for the entries in the order of the filter.
func (each walk[T]) ordered(b Backend, ctx context.Context, f Filter, o orders[T], yield func(T) error) error {
	if f.Order.Field == "" {
		return each(b, ctx, f, yield)
	}
	s := newSorted(o, &f)
	if err := each(b, ctx, f, s.add); err != nil {
		return err
	}
	return s.each(f.Limit, yield)
}

// stream returns a handler that answers with a listing: one line for each entry that the Backend yields.
func stream[T any, R interface {
	*T
	row
}](each walk[T], filters []string, o orders[T]) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		f, err := parseFilter(r.URL.Query(), append([]string{"sort", "limit"}, filters...))
		if err == nil {
			err = o.check(&f)
		}
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		// Send the headers first: the client waits for them with a timeout, and the first matching entry may take
		// longer.
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		ctx, cancel := forListing(r.Context())
		defer cancel()
		out := bufio.NewWriterSize(w, streamBuffer)
		enc := json.NewEncoder(out)
		count := 0
		var entry T // outside of the function, so that it is allocated once
		var buf []byte
		err = each.ordered(s.backend, ctx, f, o, func(item T) error {
			if count++; f.Limit > 0 && count > f.Limit {
				count = f.Limit
				return errLimit
			}
			entry = item
			buf = append(buf[:0], `{"item":`...)
			buf = append(R(&entry).appendJSON(buf), "}\n"...)
			_, err := out.Write(buf)
			return err
		})
		switch {
		case ctx.Err() != nil:
			// The client is gone or too slow, or the daemon is stopping. The missing end line marks the listing as
			// incomplete.
		case err == nil, errors.Is(err, errLimit):
			_ = enc.Encode(line[T]{End: &end{count}})
		default:
			_ = enc.Encode(line[T]{Error: asError(err)})
		}
		_ = out.Flush() // an error means that the client is gone
	}
}

// forListing returns a context that ends when a listing has taken too long.
func forListing(ctx context.Context) (context.Context, context.CancelFunc) {
	if d, ok := ctx.Value(listingTime{}).(time.Duration); ok {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}

// tally returns a handler that answers with the number of the entries that a filter selects.
func tally[C any](count func(Backend, context.Context, Filter) (C, error), filters []string) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		f, err := parseFilter(r.URL.Query(), filters)
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		ctx, cancel := forListing(r.Context())
		defer cancel()
		total, err := count(s.backend, ctx, f)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err)
			return
		}
		answer(w, http.StatusOK, total)
	}
}

// Add counts n sessions of a protocol and, if it is not empty, a state.
func (c *SessionCount) Add(protocol, state string, n int) {
	if n == 0 {
		return
	}
	if c.Protocols == nil {
		c.Protocols, c.States = map[string]int{}, map[string]int{}
	}
	c.Count += n
	c.Protocols[protocol] += n
	if state != "" {
		c.States[state] += n
	}
}

func countBindings(b Backend, ctx context.Context, f Filter) (c BindingCount, err error) {
	err = b.Bindings(ctx, f, func(b Binding) error {
		if c.Protocols == nil {
			c.Protocols = map[string]int{}
		}
		c.Count++
		c.Protocols[b.Protocol]++
		return nil
	})
	return c, err
}
