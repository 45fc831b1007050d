package gateway

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
)

// outage tells of the ports of one side that are missing, and tells it once, however many workers miss theirs. Any goroutine may
// use it; packets never do.
type outage struct {
	log *slog.Logger // with the side

	mu      sync.Mutex
	missing int    // ports to receive from that have been lost and not been opened again
	why     string // the reason, told last, why a port could not be opened
}

// lost notes that a port to receive from has failed.
func (o *outage) lost(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing++; o.missing == 1 {
		o.log.Warn("lost the NIC: waiting for it to come back", "error", err)
	}
}

// stalled notes that a port to receive from has been given up though its NIC is there.
func (o *outage) stalled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.missing++
	o.log.Warn("the receive ring of the NIC is full and the kernel delivers nothing: opening the port again")
}

// found notes that one has been opened, and says whether it was the last that was missing.
func (o *outage) found() (whole bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing == 0 {
		return false // it had never been open
	}
	if o.missing--; o.missing > 0 {
		return false
	}
	o.log.Info("the NIC is back")
	return true
}

// tried notes what came of opening a port.
func (o *outage) tried(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != "" && why != o.why && !errors.Is(err, fs.ErrNotExist) { // that it is missing has been told
		o.log.Warn("the NIC cannot be opened: trying again and again", "error", err)
	}
	o.why = why
}
