package gateway

import (
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"nat64d/packet"
)

// panicAgain is the time within which a second panic of the data path ends the gateway: our own choice.
const panicAgain = time.Minute

// maxQuoted is the maximum number of bytes of a packet in the log of a panic.
const maxQuoted = 128

// Panics counts the panics of the process, logs them and decides what follows. A panic that may have left a table half changed
// ends the process at once, because the next packet could be sent to the wrong host. Its methods are safe for concurrent use.
type Panics struct {
	log   *slog.Logger
	fatal func(message string)

	mu   sync.Mutex
	all  uint64
	last time.Time     // of the last one
	path time.Duration // of the last one in the data path, by the gateway's clock
	hit  bool          // there was one in the data path
}

// NewPanics returns Panics that log to log and call fatal, which must not return, when the process has to end at once. fatal may
// be nil: the process then ends with the panic.
func NewPanics(log *slog.Logger, fatal func(message string)) *Panics {
	if fatal == nil {
		fatal = func(message string) { panic(message) }
	}
	return &Panics{log: log, fatal: fatal}
}

// Count returns how many panics there were, and when the last one was.
func (p *Panics) Count() (n uint64, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all, p.last
}

// Aside records a panic of a goroutine that does not move packets. A function that has recovered a panic calls it with the
// recovered value before it returns, while the stack is that of the panic. It ends the process if a table was locked.
func (p *Panics) Aside(where string, value any) {
	frames := panicking()
	p.record(where, value, frames, nil)
}

// Observed is Aside for observers of events. Deliver calls them with a lock that guards nothing but them.
func (p *Panics) Observed(value any) { p.record("observer of events", value, nil, nil) }

// inPath records a panic of the data path about the packet, or none. It returns an error if the gateway has to stop: this is the
// second one within a minute.
func (p *Panics) inPath(where string, value any, frames callers, data []byte, now time.Duration) error {
	p.record(where, value, frames, data)
	p.mu.Lock()
	defer p.mu.Unlock()
	again := p.hit && now-p.path < panicAgain
	p.path, p.hit = now, true
	if again {
		return fmt.Errorf("%s: second panic within a minute: %v", where, value)
	}
	return nil
}

// record counts and logs a panic, and ends the process if a table was locked.
func (p *Panics) record(where string, value any, frames callers, data []byte) {
	p.mu.Lock()
	p.all++
	p.last = time.Now()
	p.mu.Unlock()
	stack := string(debug.Stack())
	if i := strings.Index(stack, "panic("); i > 0 { // what recovered the panic is of no interest
		stack = stack[i:]
	}
	if by := frames.locked(); by != "" {
		p.fatal(fmt.Sprintf("panic in %s, in %s, which may have left a table half changed: ending at once: %v\npacket %x\n%s", where, by, value, headers(data), stack))
	}
	p.log.Error("panic, continuing", "in", where, "panic", fmt.Sprint(value), "packet", hex.EncodeToString(headers(data)), "stack", stack)
}

// callers are the functions that a panic has interrupted, innermost first.
type callers []string

// panicking returns the functions that a panic has interrupted. Deferred functions run while these are still on the stack.
func panicking() (list callers) {
	var pcs [128]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs[:])])
	for in := false; ; {
		f, more := frames.Next()
		if in {
			list = append(list, f.Function)
		}
		in = in || f.Function == "runtime.gopanic"
		if !more {
			return list
		}
	}
}

// within reports whether a function whose name begins with one of the prefixes was interrupted.
func (c callers) within(prefixes ...string) bool {
	for _, f := range c {
		for _, p := range prefixes {
			if strings.HasPrefix(f, "nat64d/"+p) {
				return true
			}
		}
	}
	return false
}

// locked returns a function that may have held a lock of the tables, or "". Locks are released by defer, so that none is held any
// more; but what it guards may be half changed. All functions of these packages count, except those in lockless: so a function
// that is new is taken to lock.
func (c callers) locked() string {
	for _, f := range c {
		name, ours := strings.CutPrefix(f, "nat64d/")
		pkg, _, _ := strings.Cut(name, ".")
		switch {
		case !ours || lockless[name]:
		case pkg == "table" || pkg == "bib" || pkg == "session" || pkg == "pool4" || pkg == "synstore":
			return name
		case strings.HasPrefix(name, "gateway.(*mailbox[") || strings.HasPrefix(name, "gateway.(*outage)"):
			return name
		}
	}
	return ""
}

// lockless are the functions of the tables that a packet of an existing session passes. They lock nothing and change at most one
// word of an entry, by compare-and-swap.
var lockless = map[string]bool{
	"session.(*Table).From6": true, "session.(*Table).From4": true, "session.(*Table).enter6": true, "session.(*Table).enter4": true,
	"session.(*Table).Peek4": true, "session.(*Table).Known": true, "session.(*Table).Alive": true,
	"session.(*Table).pass": true, "session.(*Table).update": true, "session.(*Table).find": true, "session.(*Table).hash": true,
	"session.(*Table).unbound": true, "session.(*policy).admit": true, "session.(*event).identify": true,
	"session.(*Table).Ahead6": true, "session.(*Table).Ahead4": true, "session.(*Table).guess": true,
	"session.(*Table).guessSessions": true, "session.(*Table).hinted": true, "session.(*Table).examine": true,
	"bib.(*Table).Find6": true, "bib.(*Table).Find4": true, "bib.(*Table).find6": true, "bib.(*Table).hash": true,
	"bib.(*Table).Confirm6": true, "bib.(*Table).Confirm4": true, "bib.(*Table).Ahead6": true, "bib.(*Table).Ahead4": true,
	"bib.(*Table).Guess6": true, "bib.(*Table).Guess4": true, "bib.(*Table).addLine": true, "bib.(*Table).Client": true,
	"bib.(*index4).get": true, "table.(*Index).Find": true, "table.(*Index).Home": true, "table.(*Index).Guess": true,
	"table.(*Slab[...]).At": true, "table.(*Lines).Add": true,
	"pool4.(*Pool).Contains": true, "pool4.(*Pool).Has": true, "pool4.(*Pool).Version": true,
}

// headers returns the IP and transport headers of a packet, which may be malformed, at most maxQuoted bytes, and no payload.
func headers(data []byte) []byte {
	end := len(data)
	if end > 0 {
		end = min(end, headersLen(data))
	}
	return data[:min(end, maxQuoted)]
}

// headersLen returns the length of the headers that a packet says it has.
func headersLen(data []byte) int {
	at, next := int(data[0]&15)*4, byte(0)
	switch version := data[0] >> 4; {
	case version == 4 && len(data) >= packet.IPv4Len:
		next = data[9]
	case version == 6 && len(data) >= packet.IPv6Len:
		at, next = extensionsEnd(data)
	default:
		return packet.IPv6Len
	}
	const tcpOffset = 12 // of the header's length
	if next == packet.NumTCP && at+tcpOffset < len(data) {
		return at + max(int(data[at+tcpOffset]>>4)*4, packet.TCPLen)
	}
	return at + packet.UDPLen // ICMP, too
}

// extensionsEnd returns where the transport header of an IPv6 packet begins, and its protocol.
func extensionsEnd(data []byte) (at int, next byte) {
	const routing, options = 43, 60
	for at, next = packet.IPv6Len, data[6]; at+1 < len(data) && at < maxQuoted; {
		switch next {
		case packet.NumHopByHop, routing, options:
			next, at = data[at], at+8+int(data[at+1])*8
		case packet.NumFragment:
			next, at = data[at], at+packet.FragLen
		default:
			return at, next
		}
	}
	return at, next
}
