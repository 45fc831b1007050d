package dns64

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Transport is how an upstream is asked.
type Transport string

// The transports. What does not fit UDP is asked for over TCP.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls" // RFC 7858
)

// Upstream is a resolver that is asked.
type Upstream struct {
	Transport Transport
	Addr      netip.AddrPort
	Name      string // that its certificate must have; empty: its address
}

// String writes the upstream as a configuration does.
func (u Upstream) String() string {
	s := u.Addr.String()
	if u.Transport != UDP {
		s = string(u.Transport) + "://" + s
	}
	if u.Name != "" {
		s += "#" + u.Name
	}
	return s
}

const (
	askTimeout   = 4 * time.Second         // until a question is given up
	tryTimeout   = 1200 * time.Millisecond // of one upstream, if there are others
	resendAfter  = 800 * time.Millisecond  // a datagram may be lost
	failuresDown = 2                       // in a row, the last of them a check's, after which an upstream is down and asked last
	checkEvery   = 2 * time.Second         // those that did not answer
	allEvery     = 5 * checkEvery          // the others
	wakeAfter    = 100 * time.Millisecond  // from a question that was not answered to a check
	maxSockets   = 2048                    // questions to upstreams at once
)

// Upstreams asks resolvers. Its methods may be called by any number of goroutines.
type Upstreams struct {
	list    []*upstream
	race    bool
	sockets *sockets
	silence *silence
	wake    chan struct{} // an upstream that used to answer has not
}

// upstream is a resolver and what is known of it.
type upstream struct {
	Upstream
	tls *tls.Config

	small    atomic.Bool   // it is asked in small letters
	plain    atomic.Bool   // it is asked without OPT
	failures atomic.Uint32 // since it answered last
	outage   atomic.Pointer[outage]
	asked    atomic.Uint64
	failed   atomic.Uint64
	elapsed  atomic.Uint64 // microseconds of all answers together
	took     [len(latencies) + 1]atomic.Uint64
	recent   atomic.Uint64 // microseconds, a moving average

	mu     sync.Mutex
	idle   []*connection // that can be used again, the latest last
	closed bool          // none is kept any more
}

// UpstreamState is what is known of an upstream.
type UpstreamState struct {
	Upstream
	Up      bool
	Since   time.Time // it is not, since then
	Error   string    // why it is not
	Asked   uint64
	Failed  uint64        // questions without an answer
	Recent  time.Duration // how long answers take, a moving average
	Elapsed time.Duration // how long all answers together took
	Latency []Latency     // the last is that of all answers
}

// outage is when an upstream began not to answer, and why. down is set when a check has confirmed it: names that nobody answers
// do not make an outage.
type outage struct {
	since  time.Time
	reason string
	down   bool
}

// Latency is a bucket of a histogram.
type Latency struct {
	Within time.Duration // 0: however long it took
	Count  uint64        // answers that took no longer
}

// latencies are the bounds of the histogram: from an upstream in the same room to a question that is given up.
var latencies = [...]time.Duration{
	time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
}

// answered counts an answer.
func (u *upstream) answered(took time.Duration) {
	micros := uint64(took.Microseconds())
	u.failures.Store(0)
	u.outage.Store(nil)
	u.elapsed.Add(micros)
	u.recent.Store((7*u.recent.Load() + micros) / 8)
	i, _ := slices.BinarySearch(latencies[:], took)
	u.took[i].Add(1)
}

// latency returns the histogram.
func (u *upstream) latency() (list []Latency) {
	var n uint64
	for i := range u.took {
		n += u.took[i].Load()
		list = append(list, Latency{Count: n})
		if i < len(latencies) {
			list[i].Within = latencies[i]
		}
	}
	return list
}

// NewUpstreams returns what asks resolvers, in order or all at once. base is what connections over TLS begin with, and may
// be nil.
func NewUpstreams(list []Upstream, race bool, base *tls.Config) *Upstreams {
	us := &Upstreams{race: race, sockets: newSockets(maxSockets), silence: newSilence(), wake: make(chan struct{}, 1)}
	for _, u := range list {
		up := &upstream{Upstream: u}
		if u.Transport == TLS {
			up.tls = base.Clone()
			if up.tls == nil {
				up.tls = &tls.Config{MinVersion: tls.VersionTLS12}
			}
			if up.tls.ServerName = u.Name; u.Name == "" {
				up.tls.ServerName = u.Addr.Addr().WithZone("").String()
			}
		}
		us.list = append(us.list, up)
	}
	return us
}

// Are says whether us asks these resolvers, and in this way.
func (us *Upstreams) Are(list []Upstream, race bool) bool {
	return us.race == race && slices.EqualFunc(us.list, list, func(a *upstream, b Upstream) bool { return a.Upstream == b })
}

// State returns what is known of each.
func (us *Upstreams) State() (list []UpstreamState) {
	for _, u := range us.list {
		var o outage
		if at := u.outage.Load(); at != nil && at.down {
			o = *at
		}
		list = append(list, UpstreamState{
			Upstream: u.Upstream, Up: !o.down, Since: o.since, Error: o.reason, Asked: u.asked.Load(), Failed: u.failed.Load(),
			Recent:  time.Duration(u.recent.Load()) * time.Microsecond,
			Elapsed: time.Duration(u.elapsed.Load()) * time.Microsecond,
			Latency: u.latency(),
		})
	}
	return list
}

// Close closes the connections that wait to be used again. Those of questions under way are closed after their answers.
func (us *Upstreams) Close() {
	for _, u := range us.list {
		u.mu.Lock()
		u.closed = true
		u.mu.Unlock()
		u.prune(0)
	}
}

// Check asks upstreams whether they are there: those that seem not to be, or all. It closes connections that are not used.
func (us *Upstreams) Check(ctx context.Context, all bool) {
	var wait sync.WaitGroup
	for _, u := range us.list {
		u.prune(idleTime)
		if all || u.failures.Load() > 0 {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, tryTimeout)
				defer cancel()
				_, err := us.try(ctx, u, Question{Name: ".", Type: dns.TypeNS, Class: dns.ClassINET, RD: true}) // it counts by itself
				if o := u.outage.Load(); err != nil && o != nil && u.failures.Load() >= failuresDown {
					u.outage.CompareAndSwap(o, &outage{o.since, o.reason, true})
				}
			})
		}
	}
	wait.Wait()
}

var errNobody = errors.New("dns64: no upstream answers")

// Ask asks until one answers. An error of theirs is an answer if nobody has a better one.
func (us *Upstreams) Ask(ctx context.Context, q Question) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	candidates := us.candidates()
	if us.race && len(candidates) > 1 {
		return us.all(ctx, candidates, q)
	}
	var worse *dns.Msg
	for i, u := range candidates {
		each, done := ctx, func() {}
		if i < len(candidates)-1 {
			each, done = context.WithTimeout(ctx, tryTimeout)
		}
		m, err := us.try(each, u, q)
		done()
		if err == nil && conclusive(m.Rcode) {
			return m, nil
		}
		if err == nil {
			worse = m
		}
	}
	if worse == nil {
		return nil, errNobody
	}
	return worse, nil
}

// all asks all at once; the first answer about the name counts.
func (us *Upstreams) all(ctx context.Context, candidates []*upstream, q Question) (*dns.Msg, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *dns.Msg, len(candidates))
	for _, u := range candidates {
		go func() {
			m, _ := us.try(ctx, u, q)
			answers <- m
		}()
	}
	var worse *dns.Msg
	for range candidates {
		m := <-answers
		if m != nil && conclusive(m.Rcode) {
			return m, nil
		}
		if m != nil {
			worse = m
		}
	}
	if worse == nil {
		return nil, errNobody
	}
	return worse, nil
}

// candidates returns the upstreams, those that are down last.
func (us *Upstreams) candidates() []*upstream {
	var up, down []*upstream
	for _, u := range us.list {
		if u.up() {
			up = append(up, u)
		} else {
			down = append(down, u)
		}
	}
	return append(up, down...)
}

func (u *upstream) up() bool {
	o := u.outage.Load()
	return o == nil || !o.down
}

// missed counts a question without an answer, and reports whether it is the first one since the last answer.
func (u *upstream) missed(began time.Time, err error) bool {
	u.failed.Add(1)
	o := outage{since: began, reason: reason(err, time.Since(began))}
	if before := u.outage.Load(); before != nil {
		o.since, o.down = before.since, before.down
	}
	u.outage.Store(&o)
	return u.failures.Add(1) == 1
}

// try asks one upstream, and counts.
func (us *Upstreams) try(ctx context.Context, u *upstream, q Question) (m *dns.Msg, err error) {
	release, err := us.sockets.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	u.asked.Add(1)
	began, ended := time.Now(), traceOf(ctx).begin(u.Upstream, q)
	defer func() {
		if r := recover(); r != nil {
			m, err = nil, fmt.Errorf("dns64: upstream %v: its answer could not be read: %v", u.Upstream, r)
		}
		ended(m, err)
		cause := context.Cause(ctx)
		switch {
		case err == nil:
			u.answered(time.Since(began))
			us.silence.hears(q)
		case errors.Is(cause, context.Canceled), errors.Is(cause, errShare): // another was faster, or nobody waits
		case u.missed(began, err):
			select {
			case us.wake <- struct{}{}:
			default: // the check is due already
			}
		}
	}()
	m, err = u.exchange(ctx, q)
	return m, err
}

// dial opens a connection. An UDP socket is connected, too: the kernel then lets no answers from elsewhere through.
func (u *upstream) dial(ctx context.Context, network string) (net.Conn, error) {
	d := net.Dialer{Control: u.bind}
	to := netip.AddrPortFrom(u.Addr.Addr().WithZone(""), u.Addr.Port())
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil || u.tls == nil {
		return c, err
	}
	t := tls.Client(c, u.tls)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// bind binds a socket to the interface that an upstream with a link-local address is behind. Package net remembers for a minute
// which interface has which name, by which time one that went and came back has another index; the kernel knows.
func (u *upstream) bind(_, _ string, c syscall.RawConn) error {
	zone := u.Addr.Addr().Zone()
	if zone == "" {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		if index, err := strconv.Atoi(zone); err == nil {
			failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, index)
		} else {
			failed = unix.BindToDevice(int(fd), zone)
		}
	})
	if failed != nil {
		failed = fmt.Errorf("interface %s: %w", zone, failed)
	}
	return errors.Join(err, failed)
}
