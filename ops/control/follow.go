package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// The events of a SessionEvent.
const (
	SessionMade    = "made"
	SessionChanged = "changed"
	SessionEnded   = "ended"
	EventsLost     = "lost"
)

// SessionEvent is the beginning, a change or the end of a session, or the loss of events. Its JSON has the fields of a Session
// without the times.
type SessionEvent struct {
	Time    time.Time
	Event   string  // made, changed, ended or lost
	Session Session // without its times; State is the one after the event
	Before  string  // the state before a change
	Cause   string  // of an end: expired, finished, reset, purged, evicted or replaced
	Lost    uint64  // number of events that are missing here, because the follower was too slow
}

type eventWire struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	*flowWire
	Before string `json:"before,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Lost   uint64 `json:"lost,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (e SessionEvent) MarshalJSON() ([]byte, error) {
	w := eventWire{Time: e.Time, Event: e.Event, Before: e.Before, Cause: e.Cause, Lost: e.Lost}
	if e.Event != EventsLost {
		f := flowOf(&e.Session)
		w.flowWire = &f
	}
	return json.Marshal(w)
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *SessionEvent) UnmarshalJSON(text []byte) error {
	w := eventWire{flowWire: new(flowWire)} // encoding/json cannot make an embedded pointer of an unexported type
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*e = SessionEvent{Time: w.Time, Event: w.Event, Before: w.Before, Cause: w.Cause, Lost: w.Lost}
	if w.Event != EventsLost {
		e.Session = w.session()
	}
	return nil
}

// followFilters are the parameters of a request to follow sessions: an event has no age.
var followFilters = []string{"protocol", "client", "peer", "mapped", "port", "state", "limit"}

// follow answers with a line for each event of the sessions that the filter selects, until the client closes the connection or
// the limit of the filter is reached. A client that reads nothing for a minute is disconnected, like that of a listing.
func follow(s *server, w http.ResponseWriter, r *http.Request) {
	f, err := parseFilter(r.URL.Query(), followFilters)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(out)
	count := 0
	send := func(batch []SessionEvent) error {
		if batch == nil { // the Backend listens from now on
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		for i := range batch {
			if err := enc.Encode(line[SessionEvent]{Item: &batch[i]}); err != nil {
				return err
			}
			if count++; f.Limit > 0 && count == f.Limit {
				return errLimit
			}
		}
		if err := out.Flush(); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	}
	err = s.backend.FollowSessions(r.Context(), f, send)
	switch {
	case r.Context().Err() != nil: // the client is gone, or the daemon is stopping
	case errors.Is(err, errLimit):
		_ = enc.Encode(line[SessionEvent]{End: &end{count}})
		_ = out.Flush() // an error means that the client is gone
	case count == 0 && w.Header().Get("Content-Type") == "":
		refuse(w, http.StatusUnprocessableEntity, err)
	}
}

// FollowSessions calls yield for every event of the sessions that the filter selects, from now on, until yield returns an error, ctx
// is done or the limit of the filter is reached.
func (c *Client) FollowSessions(ctx context.Context, f Filter, yield func(SessionEvent) error) error {
	r, err := c.do(ctx, http.MethodGet, "/v1/sessions/follow?"+f.values().Encode(), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	for dec := json.NewDecoder(r.Body); ; {
		var l line[SessionEvent]
		switch err := dec.Decode(&l); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w any more: it has stopped, or it has ended the connection because nothing was read for a minute", ErrUnreachable)
		case l.Error != nil:
			return l.Error
		case l.End != nil:
			return nil
		case l.Item == nil:
			return fmt.Errorf("%w: an event is empty; nat64ctl and nat64d are of different versions", ErrUnreachable)
		}
		if err := yield(*l.Item); err != nil {
			return err
		}
	}
}
