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

// Transport is the transport for queries to an upstream.
type Transport string

// The transports. An answer that does not fit UDP is requested again over TCP.
const (
	UDP Transport = "udp"
	TCP Transport = "tcp"
	TLS Transport = "tls" // RFC 7858
)

// Upstream is a resolver that queries are forwarded to.
type Upstream struct {
	Transport Transport
	Addr      netip.AddrPort
	Name      string // name in its certificate; empty: its address
}

// String returns the upstream in the notation of the configuration.
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
	askTimeout   = 4 * time.Second         // bound of a query to upstreams
	tryTimeout   = 1200 * time.Millisecond // bound of a query to one upstream, if there are others
	resendAfter  = 800 * time.Millisecond  // time before a datagram is sent again
	failuresDown = 2                       // failures in a row, the last of a check, after which an upstream is down and tried last
	checkEvery   = 2 * time.Second         // interval of checks of upstreams that did not answer
	allEvery     = 5 * checkEvery          // interval of checks of the others
	wakeAfter    = 100 * time.Millisecond  // delay of a check after a query without an answer
	maxSockets   = 2048                    // limit of queries under way
)

// Upstreams queries resolvers. Its methods may be called by any number of goroutines.
type Upstreams struct {
	list    []*upstream // all, each once
	rest    *group      // for names outside of zones
	zones   []*group    // in the order of the configuration
	race    bool
	sockets *sockets
	wake    chan struct{} // signals that an upstream stopped answering
}

// upstream is a resolver with its state.
type upstream struct {
	Upstream
	tls   *tls.Config
	zones []string // those that it serves; "." stands for the names outside of zones

	small    atomic.Bool   // send names in lower case
	plain    atomic.Bool   // send queries without OPT
	failures atomic.Uint32 // since the last answer
	outage   atomic.Pointer[outage]
	asked    atomic.Uint64
	failed   atomic.Uint64
	elapsed  atomic.Uint64 // sum over all answers, in microseconds
	took     [len(latencies) + 1]atomic.Uint64
	recent   atomic.Uint64 // moving average, in microseconds

	mu     sync.Mutex
	idle   []*connection // for reuse, the latest last
	closed bool          // close connections instead of keeping them
}

// UpstreamState is the state of an upstream.
type UpstreamState struct {
	Upstream
	Zones   []string // "." stands for the names outside of zones
	Up      bool
	Since   time.Time // start of the outage
	Error   string    // reason of the outage
	Asked   uint64
	Failed  uint64        // queries without an answer
	Recent  time.Duration // time to answer, a moving average
	Elapsed time.Duration // sum of the times to answer
	Latency []Latency     // the last bucket counts all answers
}

// outage is the start and reason of an outage. down is set once a check has confirmed it: a query that no server answers is not
// an outage.
type outage struct {
	since  time.Time
	reason string
	down   bool
}

// Latency is a bucket of a histogram.
type Latency struct {
	Within time.Duration // 0: unbounded
	Count  uint64        // answers within the time
}

// latencies has the bounds of the histogram.
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

// NewUpstreams returns Upstreams that query the resolvers in order, or with race all at once, and those of a zone for the names
// in it. base is the TLS configuration to start from; it may be nil.
func NewUpstreams(list []Upstream, race bool, base *tls.Config, zones ...Zone) *Upstreams {
	us := &Upstreams{race: race, sockets: newSockets(maxSockets), wake: make(chan struct{}, 1)}
	us.rest = us.join(Zone{".", list}, base)
	for _, z := range zones {
		us.zones = append(us.zones, us.join(z, base))
	}
	return us
}

func newUpstream(u Upstream, base *tls.Config) *upstream {
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
	return up
}

// Are reports whether us has these resolvers and zones and the same setting of race.
func (us *Upstreams) Are(list []Upstream, race bool, zones ...Zone) bool {
	return us.race == race && us.rest.is(Zone{".", list}) && slices.EqualFunc(us.zones, zones, (*group).is)
}

// State returns the state of each upstream.
func (us *Upstreams) State() (list []UpstreamState) {
	for _, u := range us.list {
		var o outage
		if at := u.outage.Load(); at != nil && at.down {
			o = *at
		}
		list = append(list, UpstreamState{
			Upstream: u.Upstream, Zones: u.zones, Up: !o.down, Since: o.since, Error: o.reason, Asked: u.asked.Load(), Failed: u.failed.Load(),
			Recent:  time.Duration(u.recent.Load()) * time.Microsecond,
			Elapsed: time.Duration(u.elapsed.Load()) * time.Microsecond,
			Latency: u.latency(),
		})
	}
	return list
}

// Close closes the idle connections. Connections in use are closed after their answers.
func (us *Upstreams) Close() {
	for _, u := range us.list {
		u.mu.Lock()
		u.closed = true
		u.mu.Unlock()
		u.prune(0)
	}
}

// Check sends a query to all upstreams, or only to those that did not answer, and closes idle connections.
func (us *Upstreams) Check(ctx context.Context, all bool) {
	var wait sync.WaitGroup
	for _, u := range us.list {
		u.prune(idleTime)
		if all || u.failures.Load() > 0 {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, tryTimeout)
				defer cancel()
				_, err := us.try(ctx, u, u.alive()) // try records the result
				if o := u.outage.Load(); err != nil && o != nil && u.failures.Load() >= failuresDown {
					u.outage.CompareAndSwap(o, &outage{o.since, o.reason, true})
				}
			})
		}
	}
	wait.Wait()
}

var errNobody = errors.New("dns64: no upstream answers")

// Ask queries the upstreams of a name until one answers. It returns an error response if no upstream has a better answer.
func (us *Upstreams) Ask(ctx context.Context, q Question) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	candidates := us.group(q.Name).candidates()
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

// all queries all upstreams at once and returns the first answer about the name.
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

// candidates returns the upstreams in order, those that are down last.
func (g *group) candidates() []*upstream {
	var up, down []*upstream
	for _, u := range g.list {
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

// missed counts a query without an answer, and reports whether it is the first one since the last answer.
func (u *upstream) missed(began time.Time, err error) bool {
	u.failed.Add(1)
	o := outage{since: began, reason: reason(err, time.Since(began))}
	if before := u.outage.Load(); before != nil {
		o.since, o.down = before.since, before.down
	}
	u.outage.Store(&o)
	return u.failures.Add(1) == 1
}

// try queries one upstream and records the result.
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
			us.group(q.Name).silence.hears(q)
		case errors.Is(cause, context.Canceled), errors.Is(cause, errShare): // another upstream was faster, or no query waits any more
		case u.missed(began, err):
			select {
			case us.wake <- struct{}{}:
			default: // a check is pending
			}
		}
	}()
	m, err = u.exchange(ctx, q)
	return m, err
}

// dial opens a connection. It connects UDP sockets as well: the kernel then drops packets from other addresses.
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

// bind binds a socket to the interface of an upstream with a link-local address. Package net caches the indices of interfaces
// for a minute, so the index of an interface that was removed and added again would be wrong; the kernel looks it up by name.
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
