//go:build linux

package daemon

import (
	"encoding/binary"
	"testing"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/session"
)

// A survey of more clients than it can compare has the exact numbers of the clients with most ports.
func TestSurveyOfManyClients(t *testing.T) {
	t.Parallel()
	const many, ports = 2*maxSurveyed + 10, 50
	client := func(n int) (c packet.Endpoint6) {
		binary.BigEndian.PutUint64(c.Addr[8:], uint64(n))
		return c
	}
	var rows []bib.Binding
	for n := range many {
		rows = append(rows, bib.Binding{Client: client(n), Sessions: 1})
		if n%(many/ports) == 0 { // the ports of one client are spread over the table
			rows = append(rows, bib.Binding{Client: client(many), Sessions: 3})
		}
	}
	list := func(cursor uint32, buf []bib.Binding) (int, uint32) {
		n := copy(buf, rows[cursor:])
		if int(cursor)+n == len(rows) {
			return n, 0
		}
		return n, cursor + uint32(n)
	}
	uses, approximate := surveyBindings(list)
	want := len(rows) - many
	if u := uses[client(many).Addr]; !approximate || len(uses) > maxSurveyed || u.ports != want || u.sessions != 3*want {
		t.Errorf("%d clients, approximate %v, and %+v, want %d ports", len(uses), approximate, u, want)
	}
	rows = rows[:1000]
	if uses, approximate = surveyBindings(list); approximate || len(uses) != 1000-1 && len(uses) != 1000 {
		t.Errorf("of a thousand bindings: %d clients, approximate %v", len(uses), approximate)
	}
}

// Events that do not fit into the queue of a follower are counted; others than it wants are not.
func TestFollowerCountsEventsThatDoNotFit(t *testing.T) {
	t.Parallel()
	f := &follower{some: make(chan struct{}, 1), match: func(e *session.Event) bool { return e.Proto == packet.UDP }}
	batch := make([]session.Event, maxFollowed+10)
	for i := range batch {
		if batch[i].Proto = packet.UDP; i%2 == 0 {
			batch[i].Proto = packet.TCP
		}
	}
	f.note(batch, 3)
	f.note(batch, 0)
	<-f.some
	events, lost := f.take(nil)
	if len(events) != maxFollowed || lost != 3+10 {
		t.Errorf("%d events wait, %d are lost", len(events), lost)
	}
	f.note(batch[:1], 0)
	if events, lost = f.take(events); len(events) != 0 || lost != 0 || len(f.some) != 0 {
		t.Errorf("%d events wait, %d are lost", len(events), lost)
	}
}
