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

// Errors about an answer that is not taken.
var (
	errNotOurs    = errors.New("dns64: not the answer to the question")
	errTruncated  = errors.New("dns64: the answer does not fit")
	errOtherCase  = errors.New("dns64: the answer spells the question in other letters")
	errNoQuestion = errors.New("dns64: the answer does not repeat the question")
	errNoEDNS     = errors.New("dns64: a question with OPT cannot be read")
	errUnreadable = errors.New("dns64: the answer cannot be read")
)

// advertised is the longest answer that is wanted over UDP: one that is not fragmented anywhere.
const advertised = 1232

// streamTimeout is how long TCP is tried where UDP has another way to go on: a firewall may drop it without a word.
const streamTimeout = 500 * time.Millisecond

// exchange asks an upstream. One that does not understand OPT is asked without from then on (RFC 6891 section 7).
func (u *upstream) exchange(ctx context.Context, q Question) (*dns.Msg, error) {
	m, err := u.byTransport(ctx, q, u.plain.Load())
	if !errors.Is(err, errNoEDNS) {
		return m, err
	}
	m, err = u.byTransport(ctx, q, true)
	if err == nil && m.Rcode != dns.RcodeFormatError { // else it was not because of OPT
		u.plain.Store(true)
	}
	return m, err
}

// byTransport asks an upstream by its transport; plain is without OPT. An answer over UDP that is cut down, or that has not the
// pattern of letters by which it is known, is asked for again over TCP, where nobody can forge one. An upstream that neither
// keeps the letters nor knows TCP is asked in small letters from then on.
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

// ask writes a question as it is sent: with an ID and a pattern of capitals that somebody who cannot see it would have to
// guess, beside the port; or in small letters. A plain one has no OPT.
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

// mix makes capitals of some letters ("0x20").
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

// parseAnswer reads the answer to a question that was sent. Over a stream it needs no proof that it is not forged: the question
// may be in other letters, and an error may come without it, as from a server that could not read it. Names that refer to the
// question are in small letters then, as they were before they were mixed.
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
	for _, rr := range m.Answer { // some servers make owners and targets of the name as it was asked for
		h := rr.Header()
		h.Name = dns.CanonicalName(h.Name)
		if c, is := rr.(*dns.CNAME); is {
			c.Target = dns.CanonicalName(c.Target)
		}
	}
	kept := m.Extra[:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // it is about this exchange only
			kept = append(kept, rr)
		}
	}
	if m.Extra = kept; m.Rcode > 15 {
		m.Rcode = dns.RcodeServerFailure // such errors are about EDNS, which was our business
	}
	return m, nil
}

// hasOPT says whether a question was sent with OPT, the only additional record that there may be.
func hasOPT(sent []byte) bool { return sent[11] != 0 }

// overUDP asks over UDP, and again if there is no answer. What is not the answer is ignored: the answer may yet come.
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

// listen waits for the answer until it is time to ask again, which is errNotOurs.
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

// Connections that wait to be used again (RFC 7766 section 6.2.1): so many, and so long.
const (
	maxIdle  = 32
	idleTime = 8 * time.Second
)

// connection is one over TCP or TLS.
type connection struct {
	net.Conn
	since time.Time // it waits
}

// overStream asks over TCP or TLS, if possible on a connection that is there. Upstreams may have closed that one: then a
// new one counts.
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

// connection returns one to ask on, and whether it has been used before.
func (u *upstream) connection(ctx context.Context) (c *connection, used bool, err error) {
	u.prune(idleTime)
	if c := u.take(); c != nil {
		return c, true, nil
	}
	n, err := u.dial(ctx, "tcp")
	return &connection{Conn: n}, false, err
}

// take returns the connection that was used last, if there is one.
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

// keep has a connection wait for its next use, unless nobody asks this upstream any more.
func (u *upstream) keep(c *connection) {
	c.since = time.Now()
	u.mu.Lock()
	full := u.closed || len(u.idle) == maxIdle
	if !full {
		u.idle = append(u.idle, c)
	}
	u.mu.Unlock()
	if full {
		c.Close() // not under the lock: TLS says good-bye, for which it may wait
	}
}

// prune closes connections that have waited for so long.
func (u *upstream) prune(idle time.Duration) {
	u.mu.Lock()
	n := 0
	for n < len(u.idle) && time.Since(u.idle[n].since) >= idle { // the longest first
		n++
	}
	old := slices.Clone(u.idle[:n])
	u.idle = slices.Delete(u.idle, 0, n)
	u.mu.Unlock()
	for _, c := range old {
		c.Close()
	}
}

// converse sends a question over a stream, with its length in front, and reads the answer.
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
