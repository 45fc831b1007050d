package gateway

import (
	"errors"
	"io/fs"
	"log/slog"
	"sync"
)

// outage logs once that ports of one side are missing, however many workers have lost theirs. Any goroutine may use it; the packet
// path does not.
type outage struct {
	log *slog.Logger // with the side

	mu      sync.Mutex
	missing int    // number of receiving ports that have failed and are not open again
	why     string // the error logged last for a port that could not be opened
}

// lost records the failure of a receiving port.
func (o *outage) lost(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing++; o.missing == 1 {
		o.log.Warn("lost the NIC, waiting for it", "error", err)
	}
}

// stalled records that a receiving port was closed although its NIC exists.
func (o *outage) stalled() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.missing++
	o.log.Warn("the receive ring of the NIC is full and the kernel delivers nothing: opening the port again")
}

// found notes that one has been opened, and reports whether it was the last that was missing.
func (o *outage) found() (whole bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.missing == 0 {
		return false // it was never open before
	}
	if o.missing--; o.missing > 0 {
		return false
	}
	o.log.Info("the NIC is back")
	return true
}

// tried notes the result of opening a port.
func (o *outage) tried(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	why := ""
	if err != nil {
		why = err.Error()
	}
	if why != "" && why != o.why && !errors.Is(err, fs.ErrNotExist) { // a missing NIC has been logged
		o.log.Warn("cannot open the NIC, retrying", "error", err)
	}
	o.why = why
}
