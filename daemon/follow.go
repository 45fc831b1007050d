//go:build linux

package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/ops/control"
	"nat64d/packet"
	"nat64d/session"
)

// Bounds of session follow: our own choices. A follower keeps 1.6 MB of events at most.
const (
	maxFollowers = 16
	maxFollowed  = 1 << 14 // events that wait for one follower
)

// follower keeps the events of the sessions that a filter selects until they are sent.
type follower struct {
	match func(*session.Event) bool
	some  chan struct{} // events wait, or have been lost

	mu     sync.Mutex
	events []session.Event
	lost   uint64
}

// note takes events from the goroutine that delivers them, which must not wait.
func (f *follower) note(batch []session.Event, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost += lost
	for i := range batch {
		switch {
		case !f.match(&batch[i]):
		case len(f.events) == maxFollowed:
			f.lost++
		default:
			f.events = append(f.events, batch[i])
		}
	}
	if len(f.events) == 0 && f.lost == 0 {
		return
	}
	select {
	case f.some <- struct{}{}:
	default: // the follower has not seen the last ones yet
	}
}

// take returns what waits, in buf.
func (f *follower) take(buf []session.Event) (events []session.Event, lost uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, lost = f.events, f.lost
	f.events, f.lost = buf[:0], 0
	return events, lost
}

// followers counts the clients that follow sessions.
type followers struct{ n atomic.Int32 }

func (f *followers) enter() error {
	if f.n.Add(1) > maxFollowers {
		f.n.Add(-1)
		return &control.Error{Message: fmt.Sprintf("%d clients follow sessions already", maxFollowers), Hint: "end one of them"}
	}
	return nil
}

func (f *followers) leave() { f.n.Add(-1) }

// FollowSessions implements control.Backend.
func (b *backend) FollowSessions(ctx context.Context, f control.Filter, yield func([]control.SessionEvent) error) error {
	if err := b.followers.enter(); err != nil {
		return err
	}
	defer b.followers.leave()
	q := &follower{some: make(chan struct{}, 1)}
	q.match = func(e *session.Event) bool {
		s := b.eventSession(e)
		return f.MatchSession(&s)
	}
	o := b.gateway.Sessions.Observe(session.KindsOf(session.SessionMade, session.SessionChanged, session.SessionEnded), q.note)
	defer o.Close()
	if err := yield(nil); err != nil {
		return err
	}
	var events []session.Event
	var batch []control.SessionEvent
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.some:
		}
		var lost uint64
		events, lost = q.take(events)
		batch = batch[:0]
		if lost > 0 {
			batch = append(batch, control.SessionEvent{Time: time.Now(), Event: control.EventsLost, Lost: lost})
		}
		start := b.gateway.TimeOf(0)
		for i := range events {
			batch = append(batch, b.sessionEvent(&events[i], start))
		}
		if err := yield(batch); err != nil {
			return err
		}
	}
}

// eventSession returns the session of an event, without its times.
func (b *backend) eventSession(e *session.Event) control.Session {
	row := session.Session{Proto: e.Proto, Client: e.Client, Mapped: e.Mapped, Remote: e.Remote, State: e.State, Prefix: e.Prefix}
	return b.session(&row)
}

func (b *backend) sessionEvent(e *session.Event, start time.Time) control.SessionEvent {
	x := control.SessionEvent{Time: start.Add(e.At.Duration()).Round(time.Millisecond), Session: b.eventSession(e)}
	switch e.Kind {
	case session.SessionMade:
		x.Event = control.SessionMade
	case session.SessionEnded:
		x.Event, x.Cause = control.SessionEnded, e.Cause.String()
	default:
		x.Event = control.SessionChanged
		if e.Proto == packet.TCP {
			x.Before = e.Before.String()
		}
	}
	return x
}
