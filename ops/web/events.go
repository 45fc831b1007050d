package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// events returns the live figures as server-sent events, one for each document.
func (w *Server) events() []byte {
	var b bytes.Buffer
	for _, d := range documents {
		if d.name == "history" { // the page asks for it once a minute
			continue
		}
		v, err := d.value(w)
		if err != nil { // there is no DNS64
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			continue // a NaN: the page keeps the last figures
		}
		fmt.Fprintf(&b, "event: %s\ndata: %s\n\n", d.name, text)
	}
	return b.Bytes()
}

// maxViewers is the number of pages that are open at a time: our own choice.
const maxViewers = 16

// viewers are the open pages. Any goroutine may call the methods.
type viewers struct {
	opened chan struct{} // gets a value when there is a page again

	mu     sync.Mutex
	open   map[chan []byte]struct{} // guarded by mu
	closed bool                     // guarded by mu
}

// add returns the channel of a new page, or nil if there are too many.
func (v *viewers) add() chan []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed || len(v.open) == maxViewers {
		return nil
	}
	if v.open == nil {
		v.open = make(map[chan []byte]struct{})
	}
	c := make(chan []byte, 1)
	v.open[c] = struct{}{}
	select {
	case v.opened <- struct{}{}:
	default: // one is pending
	}
	return c
}

func (v *viewers) remove(c chan []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.open, c)
}

func (v *viewers) any() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.open) > 0
}

// send passes figures to every page. A page that has not read the last ones misses these.
func (v *viewers) send(b []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.open {
		select {
		case c <- b:
		default:
		}
	}
}

// close ends the streams of all pages.
func (v *viewers) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed = true
	for c := range v.open {
		close(c)
	}
	clear(v.open)
}

// writeWithin is how long a page may take to read its figures.
const writeWithin = 10 * time.Second

// stream answers with the live figures until the page is closed.
func (w *Server) stream(rw http.ResponseWriter, r *http.Request) {
	c := w.viewers.add()
	if c == nil {
		http.Error(rw, fmt.Sprintf("%d pages are open already", maxViewers), http.StatusServiceUnavailable)
		return
	}
	defer w.viewers.remove(c)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	conn := http.NewResponseController(rw)
	b := w.events()
	for {
		_ = conn.SetWriteDeadline(time.Now().Add(writeWithin)) // fails only if the client is gone
		if _, err := rw.Write(b); err != nil {
			return
		}
		if err := conn.Flush(); err != nil {
			return
		}
		var more bool
		select {
		case <-r.Context().Done():
			return
		case b, more = <-c:
			if !more {
				return
			}
		}
	}
}
