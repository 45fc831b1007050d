package dns64

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Errors for answers that are refused.
var (
	errNotOurs    = errors.New("dns64: not the answer to the question")
	errTruncated  = errors.New("dns64: the answer does not fit")
	errOtherCase  = errors.New("dns64: the answer has the question in other case")
	errNoQuestion = errors.New("dns64: the answer does not repeat the question")
	errNoEDNS     = errors.New("dns64: the upstream does not understand OPT")
	errUnreadable = errors.New("dns64: the answer cannot be read")
)

// advertised is the UDP payload size that queries to upstreams offer, small enough to avoid fragmentation.
const advertised = 1232

// streamTimeout bounds an attempt over TCP if there is another way over UDP: a firewall may drop TCP silently.
const streamTimeout = 500 * time.Millisecond

// exchange sends a question to an upstream. If the upstream does not understand OPT, exchange omits it from then on (RFC 6891
// section 7).
func (u *upstream) exchange(ctx context.Context, q Question) (*dns.Msg, error) {
	m, err := u.byTransport(ctx, q, u.plain.Load())
	if !errors.Is(err, errNoEDNS) {
		return m, err
	}
	m, err = u.byTransport(ctx, q, true)
	if err == nil && m.Rcode != dns.RcodeFormatError { // otherwise OPT was not the cause
		u.plain.Store(true)
	}
	return m, err
}

// byTransport sends a question over the transport of the upstream; plain omits OPT. It retries over TCP if an answer over UDP
// is truncated or does not repeat the case of the name, since an off-path attacker cannot forge an answer over TCP. It sends
// lower case from then on to an upstream that neither preserves case nor supports TCP.
func (u *upstream) byTransport(ctx context.Context, q Question, plain bool) (*dns.Msg, error) {
	if u.Transport != UDP {
		return u.overStream(ctx, q, plain)
	}
	m, err := u.overUDP(ctx, q, plain)
	other, unread := errors.Is(err, errOtherCase), errors.Is(err, errNoEDNS)
	if !errors.Is(err, errTruncated) && !errors.Is(err, errNoQuestion) && !other {
		return m, err
	}
	try, cancel := ctx, func() {}
	if other || unread {
		try, cancel = context.WithTimeout(ctx, streamTimeout)
	}
	defer cancel()
	m, failed := u.overStream(try, q, plain)
	switch {
	case failed == nil || ctx.Err() != nil:
		return m, failed
	case other:
		u.small.Store(true)
		return u.overUDP(ctx, q, plain)
	case unread:
		return nil, err
	}
	return nil, failed
}

// ask returns a question in wire format. Its ID and the random case of its name, like the port, must be guessed by an off-path
// attacker; small leaves the name in lower case, and plain omits OPT.
func ask(q Question, small, plain bool) ([]byte, error) {
	b := make([]byte, headerLen, headerLen+maxName+4+optLen)
	binary.BigEndian.PutUint16(b, uint16(rand.Uint32()))
	flags := uint16(flagRD | flagAD)
	if q.CD {
		flags |= flagCD
	}
	binary.BigEndian.PutUint16(b[2:], flags)
	b[5] = 1
	name := make([]byte, maxName+1)
	n, err := dns.PackDomainName(q.Name, name, 0, nil, false)
	if err != nil {
		return nil, err
	}
	b = lower(b, name[:n])
	if !small {
		mix(b[headerLen:])
	}
	b = binary.BigEndian.AppendUint16(b, q.Type)
	b = binary.BigEndian.AppendUint16(b, q.Class)
	asQuery := query{edns: !plain, do: q.DO}
	return asQuery.appendOPT(b, 0, 0, advertised), nil
}

// mix changes random letters to upper case ("0x20").
func mix(name []byte) {
	bits := rand.Uint64()
	for i, c := range name {
		if i%64 == 63 {
			bits = rand.Uint64()
		}
		if 'a' <= c && c <= 'z' && bits>>(i%64)&1 == 1 {
			name[i] = c &^ 0x20
		}
	}
}

// parseAnswer reads the answer to a question. Over a stream an answer cannot be forged off-path: its question may then have
// other case, and an error may lack the question, as from a server that could not parse it. parseAnswer restores the lower case
// of names that repeat the question.
func parseAnswer(sent, b []byte, stream bool) (*dns.Msg, error) {
	if len(b) < headerLen || b[0] != sent[0] || b[1] != sent[1] || b[2]&(flagQR>>8) == 0 {
		return nil, errNotOurs
	}
	end := headerLen + nameLen(sent[headerLen:]) + 4
	if rcode := b[3] & 15; len(b) == headerLen && binary.BigEndian.Uint64(b[4:]) == 0 && rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError {
		unread := rcode == dns.RcodeFormatError && hasOPT(sent)
		switch {
		case unread && !stream:
			return nil, fmt.Errorf("%w: %w", errNoQuestion, errNoEDNS)
		case unread:
			return nil, errNoEDNS
		case !stream:
			return nil, errNoQuestion
		}
		return &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: int(rcode)}}, nil
	}
	switch {
	case len(b) < end || b[4] != 0 || b[5] != 1 || !equalFold(lower(nil, sent[headerLen:end-4]), b[headerLen:end-4]),
		!bytes.Equal(sent[end-4:end], b[end-4:end]):
		return nil, errNotOurs
	case b[2]&(flagTC>>8) != 0:
		return nil, errTruncated
	case !stream && !bytes.Equal(sent[headerLen:end], b[headerLen:end]):
		return nil, errOtherCase
	}
	lower(b[headerLen:headerLen], b[headerLen:end-4])
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	if m.Rcode == dns.RcodeFormatError && hasOPT(sent) && m.IsEdns0() == nil {
		return nil, errNoEDNS
	}
	for _, rr := range m.Answer { // some servers copy the case of the question into owners and targets
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if c, is := rr.(*dns.CNAME); is {
			c.Target = dns.CanonicalName(c.Target)
		}
	}
	kept := m.Extra[:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // applies to this exchange only
			kept = append(kept, rr)
		}
	}
	if m.Extra = kept; m.Rcode > 15 {
		m.Rcode = dns.RcodeServerFailure // an error about EDNS concerns our query, not the client's
	}
	return m, nil
}

// hasOPT reports whether a question was sent with OPT, which is then its only additional record.
func hasOPT(sent []byte) bool { return sent[11] != 0 }

// overUDP sends a question over UDP, and again if no answer arrives. It ignores packets that are not the answer, because the
// real one may still arrive.
func (u *upstream) overUDP(ctx context.Context, q Question, plain bool) (*dns.Msg, error) {
	sent, err := ask(q, u.small.Load(), plain)
	if err != nil {
		return nil, err
	}
	c, err := u.dial(ctx, "udp")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	b := make([]byte, 4096)
	for {
		if _, err := c.Write(sent); err != nil {
			return nil, err
		}
		m, err := listen(ctx, c, sent, b)
		if !errors.Is(err, errNotOurs) {
			return m, err
		}
	}
}

// listen waits for the answer and returns errNotOurs when it is time to send the question again.
func listen(ctx context.Context, c net.Conn, sent, b []byte) (*dns.Msg, error) {
	_ = c.SetReadDeadline(time.Now().Add(resendAfter))
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n, err := c.Read(b)
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout() && ctx.Err() == nil:
			return nil, errNotOurs
		case err != nil:
			return nil, err
		}
		if m, err := parseAnswer(sent, b[:n], false); !errors.Is(err, errNotOurs) {
			return m, err
		}
	}
}

// Bounds of idle connections that are kept for reuse (RFC 7766 section 6.2.1).
const (
	maxIdle  = 32
	idleTime = 8 * time.Second
)

// connection is a connection to an upstream over TCP or TLS.
type connection struct {
	net.Conn
	since time.Time // start of the idle time
}

// overStream sends a question over TCP or TLS, on an idle connection if possible. The upstream may have closed it: then
// overStream opens a new one.
func (u *upstream) overStream(ctx context.Context, q Question, plain bool) (*dns.Msg, error) {
	for {
		c, used, err := u.connection(ctx)
		if err != nil {
			return nil, err
		}
		m, err := converse(ctx, c, q, plain)
		if err == nil || errors.Is(err, errNoEDNS) {
			u.keep(c)
			return m, err
		}
		c.Close()
		if !used || ctx.Err() != nil {
			return nil, err
		}
	}
}

// connection returns a connection to the upstream and reports whether it was used before.
func (u *upstream) connection(ctx context.Context) (c *connection, used bool, err error) {
	u.prune(idleTime)
	if c := u.take(); c != nil {
		return c, true, nil
	}
	n, err := u.dial(ctx, "tcp")
	return &connection{Conn: n}, false, err
}

// take returns the most recently used idle connection, or nil.
func (u *upstream) take() *connection {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := len(u.idle) - 1
	if last < 0 {
		return nil
	}
	c := u.idle[last]
	u.idle = u.idle[:last]
	return c
}

// keep adds a connection to the idle ones, or closes it if the upstream is no longer in use.
func (u *upstream) keep(c *connection) {
	c.since = time.Now()
	u.mu.Lock()
	full := u.closed || len(u.idle) == maxIdle
	if !full {
		u.idle = append(u.idle, c)
	}
	u.mu.Unlock()
	if full {
		c.Close() // not under the lock: closing TLS sends an alert, which may block
	}
}

// prune closes connections that have been idle for the duration.
func (u *upstream) prune(idle time.Duration) {
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && time.Since(u.idle[n].since) >= idle { // the list starts with the longest idle one
		n++
	}
	old := slices.Clone(u.idle[:n])
	u.idle = slices.Delete(u.idle, 0, n)
	u.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// converse sends a question over a stream, after its length, and reads the answer.
func converse(ctx context.Context, c net.Conn, q Question, plain bool) (*dns.Msg, error) {
	sent, err := ask(q, true, plain)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(askTimeout))
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(sent))), sent...)); err != nil {
		return nil, err
	}
	b, err := readStream(c)
	if err != nil {
		return nil, err
	}
	return parseAnswer(sent, b, true)
}

// readStream reads one message.
func readStream(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}
