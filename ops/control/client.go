package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnreachable is in the chain of every error that means that no daemon answered, or that its answer was
// incomplete.
var ErrUnreachable = errors.New("nat64d does not answer")

// defaultTimeout is the default limit for the answer of a daemon.
const defaultTimeout = 10 * time.Second

// Client sends requests to a daemon. The zero value connects to DefaultSocket. Its methods are safe for concurrent
// use; each call opens one connection. If the daemon refuses a request, the error is an *Error.
type Client struct {
	Socket  string        // path; empty: DefaultSocket
	Timeout time.Duration // until the daemon answers or, for a listing, starts to answer; 0: 10 s
}

// Version returns the version of the daemon.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.get(ctx, "/v1/version", &v)
}

// Status returns the state of the daemon.
func (c *Client) Status(ctx context.Context) (v Status, err error) {
	return v, c.get(ctx, "/v1/status", &v)
}

// Stats returns every counter.
func (c *Client) Stats(ctx context.Context) (v []Counter, err error) {
	return v, c.get(ctx, "/v1/stats", &v)
}

// Pool6 returns the NAT64 prefixes.
func (c *Client) Pool6(ctx context.Context) (v []Pool6Entry, err error) {
	return v, c.get(ctx, "/v1/pool6", &v)
}

// Pool4 returns the ranges of pool4 and their use.
func (c *Client) Pool4(ctx context.Context) (v []Pool4Entry, err error) {
	return v, c.get(ctx, "/v1/pool4", &v)
}

// Pool4Usage returns the use of each address of pool4, and that many clients with most ports.
func (c *Client) Pool4Usage(ctx context.Context, clients int) (v Pool4Usage, err error) {
	return v, c.get(ctx, "/v1/pool4/usage?"+url.Values{"clients": {strconv.Itoa(clients)}}.Encode(), &v)
}

// Clients returns the clients that use most of something. The daemon counts their traffic for some seconds after each call.
func (c *Client) Clients(ctx context.Context, q ClientQuery) (v ClientList, err error) {
	p := url.Values{"sort": {q.By}}
	if q.Limit > 0 {
		p.Set("limit", strconv.Itoa(q.Limit))
	}
	return v, c.get(ctx, "/v1/clients?"+p.Encode(), &v)
}

// AddPool4 adds transport addresses.
func (c *Client) AddPool4(ctx context.Context, change Pool4Change) (v Pool4Result, err error) {
	return v, c.post(ctx, "/v1/pool4/add", change, &v)
}

// RemovePool4 removes transport addresses and ends the bindings and sessions that used them.
func (c *Client) RemovePool4(ctx context.Context, change Pool4Change) (v Pool4Result, err error) {
	return v, c.post(ctx, "/v1/pool4/remove", change, &v)
}

// FlushPool4 removes all transport addresses.
func (c *Client) FlushPool4(ctx context.Context) (v Pool4Result, err error) {
	return v, c.post(ctx, "/v1/pool4/flush", nil, &v)
}

// AddPool6 adds a NAT64 prefix.
func (c *Client) AddPool6(ctx context.Context, change Pool6Change) (v Pool6Result, err error) {
	return v, c.post(ctx, "/v1/pool6/add", change, &v)
}

// RemovePool6 removes a NAT64 prefix and ends the sessions that used it.
func (c *Client) RemovePool6(ctx context.Context, change Pool6Change) (v Pool6Result, err error) {
	return v, c.post(ctx, "/v1/pool6/remove", change, &v)
}

// Address returns the IPv6 addresses that represent an IPv4 address, or the IPv4 address that an IPv6 address
// represents.
func (c *Client) Address(ctx context.Context, address string) (v []AddressPair, err error) {
	return v, c.get(ctx, "/v1/address?"+url.Values{"address": {address}}.Encode(), &v)
}

// AddBinding adds static bindings.
func (c *Client) AddBinding(ctx context.Context, change BindingChange) (v BindingResult, err error) {
	return v, c.post(ctx, "/v1/bindings/add", change, &v)
}

// RemoveBinding removes static bindings and ends dynamic ones, with their sessions.
func (c *Client) RemoveBinding(ctx context.Context, change BindingChange) (v BindingResult, err error) {
	return v, c.post(ctx, "/v1/bindings/remove", change, &v)
}

// GetConfig returns the key with that name or that name in Jool. Without a name it returns all keys.
func (c *Client) GetConfig(ctx context.Context, key string) (v []ConfigKey, err error) {
	return v, c.get(ctx, "/v1/config?"+url.Values{"key": {key}}.Encode(), &v)
}

// SetConfig changes one key.
func (c *Client) SetConfig(ctx context.Context, change ConfigChange) (v ConfigResult, err error) {
	return v, c.post(ctx, "/v1/config/set", change, &v)
}

// Reload makes the daemon read its configuration file again.
func (c *Client) Reload(ctx context.Context) (v ReloadResult, err error) {
	return v, c.post(ctx, "/v1/reload", nil, &v)
}

// Pause stops translation; bindings and sessions remain.
func (c *Client) Pause(ctx context.Context) error { return c.post(ctx, "/v1/pause", nil, &struct{}{}) }

// Resume continues translation.
func (c *Client) Resume(ctx context.Context) error {
	return c.post(ctx, "/v1/resume", nil, &struct{}{})
}

// Bindings calls yield for every binding that the filter selects. It stops at the first error of yield and returns
// it. If it returns nil, the listing was complete.
func (c *Client) Bindings(ctx context.Context, f Filter, yield func(Binding) error) error {
	return receive[bindingWire](ctx, c, "/v1/bindings", f, yield)
}

// Sessions is like Bindings, for sessions.
func (c *Client) Sessions(ctx context.Context, f Filter, yield func(Session) error) error {
	return receive[sessionWire](ctx, c, "/v1/sessions", f, yield)
}

// Trace calls yield for every packet that the filter selects, and missed with the number of packets that were left out. It ends with
// the limit of the filter, when ctx is done, or with the first error of yield or missed, which it returns.
func (c *Client) Trace(ctx context.Context, f TraceFilter, yield func(Traced) error, missed func(uint64) error) error {
	return recorded(ctx, c, "/v1/trace", f, nil, yield, missed)
}

// Capture is like Trace, with the packets themselves. It calls start first.
func (c *Client) Capture(ctx context.Context, f TraceFilter, start func(CaptureStart) error, yield func(Captured) error, missed func(uint64) error) error {
	return recorded(ctx, c, "/v1/capture", f, start, yield, missed)
}

// recorded reads a trace or a capture to its end.
func recorded[T any](ctx context.Context, c *Client, path string, f TraceFilter, start func(CaptureStart) error, yield func(T) error, missed func(uint64) error) error {
	r, err := c.do(ctx, http.MethodGet, path+"?"+f.values().Encode(), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	for dec := json.NewDecoder(r.Body); ; {
		var l recordLine[T]
		err := dec.Decode(&l)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: the packets broke off", ErrUnreachable)
		case l.Error != nil:
			return l.Error
		case l.End != nil:
			return nil
		case l.Start != nil && start != nil:
			err = start(*l.Start)
			start = nil
		case l.Missed > 0 && start == nil:
			err = missed(l.Missed)
		case l.Item != nil && start == nil:
			err = yield(*l.Item)
		default:
			err = fmt.Errorf("%w: a packet is empty; nat64ctl and nat64d are of different versions", ErrUnreachable)
		}
		if err != nil {
			return err
		}
	}
}

// CountBindings returns the number of bindings that the filter selects, without a limit or an order.
func (c *Client) CountBindings(ctx context.Context, f Filter) (v BindingCount, err error) {
	return v, c.get(ctx, "/v1/bindings/count?"+f.values().Encode(), &v)
}

// CountSessions is like CountBindings, for sessions.
func (c *Client) CountSessions(ctx context.Context, f Filter) (v SessionCount, err error) {
	return v, c.get(ctx, "/v1/sessions/count?"+f.values().Encode(), &v)
}

// RemoveSessions ends the sessions that the request selects.
func (c *Client) RemoveSessions(ctx context.Context, change SessionChange) (v SessionResult, err error) {
	return v, c.post(ctx, "/v1/sessions/remove", change, &v)
}

func (c *Client) get(ctx context.Context, path string, v any) error {
	return c.short(ctx, http.MethodGet, path, nil, v)
}

func (c *Client) post(ctx context.Context, path string, body, v any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	return c.short(ctx, http.MethodPost, path, bytes.NewReader(text), v)
}

// short makes a request whose whole answer must arrive within the timeout.
func (c *Client) short(ctx context.Context, method, path string, body io.Reader, v any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	r, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(v); err != nil {
		return c.unreachable(err)
	}
	return nil
}

// receive reads a listing to its end line.
func receive[W wire[T], T any](ctx context.Context, c *Client, path string, f Filter, yield func(T) error) error {
	r, err := c.do(ctx, http.MethodGet, path+"?"+f.values().Encode(), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	dec := json.NewDecoder(r.Body)
	for n := 0; ; n++ {
		var l line[W]
		if err := dec.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: the listing is incomplete: it broke off after %d entries. nat64d ends a listing if the client reads nothing for a minute: write it to a file first", ErrUnreachable, n)
		}
		switch {
		case l.Error != nil:
			return l.Error
		case l.End != nil && l.End.Count != n:
			return fmt.Errorf("%w: the listing has %d entries instead of %d", ErrUnreachable, n, l.End.Count)
		case l.End != nil:
			return nil
		case l.Item == nil:
			return fmt.Errorf("%w: entry %d of the listing is empty; nat64ctl and nat64d are of different versions", ErrUnreachable, n)
		}
		if err := yield((*l.Item).row()); err != nil {
			return err
		}
	}
}

// do makes a request and returns the response if its status is 200.
func (c *Client) do(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, "http://nat64d"+path, body)
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", "application/json")
	transport := &http.Transport{
		DisableKeepAlives:     true,
		ResponseHeaderTimeout: c.timeout(),
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
	}
	r, err := transport.RoundTrip(q)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if r.StatusCode == http.StatusOK {
		return r, nil
	}
	defer r.Body.Close()
	var e Error
	if err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(&e); err != nil || e.Message == "" {
		return nil, &Error{Message: "the daemon answered " + r.Status, Hint: "nat64ctl and nat64d may be of different versions"}
	}
	return nil, &e
}

// dial connects to the daemon. If the accept queue of a unix socket is full, connect returns EAGAIN; for TCP it would
// wait.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", c.socket())
		if !errors.Is(err, unix.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *Client) socket() string         { return cmp.Or(c.Socket, DefaultSocket) }
func (c *Client) timeout() time.Duration { return cmp.Or(c.Timeout, defaultTimeout) }

// unreachable returns an error that explains why the request failed and what to do.
func (c *Client) unreachable(err error) error {
	var netErr net.Error
	why := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		why = "no process listens there; start nat64d, or set its socket with --socket"
	case errors.Is(err, os.ErrPermission):
		why = "permission denied; use sudo, or join the group of the socket"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		why = fmt.Sprintf("no response within %v; see the log of nat64d", c.timeout())
	}
	return fmt.Errorf("%w on %s: %s", ErrUnreachable, c.socket(), why)
}
