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

// stream returns a handler that answers with a listing: one line for each entry that the Backend yields.
func stream[T any](each func(Backend, context.Context, Filter, func(T) error) error) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		f, err := parseFilter(r.URL.Query())
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
		ctx := r.Context()
		if d, ok := ctx.Value(listingTime{}).(time.Duration); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, d)
			defer cancel()
		}
		out := bufio.NewWriterSize(w, streamBuffer)
		enc := json.NewEncoder(out)
		count := 0
		err = each(s.backend, ctx, f, func(item T) error {
			if count++; f.Limit > 0 && count > f.Limit {
				count = f.Limit
				return errLimit
			}
			return enc.Encode(line[T]{Item: &item})
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
