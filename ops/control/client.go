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
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnreachable is in the chain of every error that means that no daemon answered, or not to the end.
var ErrUnreachable = errors.New("nat64d does not answer")

// defaultTimeout is how long a daemon may take to answer.
const defaultTimeout = 10 * time.Second

// Client asks a daemon. The zero value asks the one on DefaultSocket. Its methods may be called by any number of
// goroutines; each call is one connection. A refusal by the daemon is an *Error.
type Client struct {
	Socket  string        // path; empty: DefaultSocket
	Timeout time.Duration // until the daemon answers or, for a listing, begins to; 0: 10 s
}

// Version returns what the daemon was built from.
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

// Address returns the IPv6 addresses that stand for an IPv4 one, or the IPv4 one that an IPv6 address stands for.
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

// GetConfig returns the key of that name, which may be its name in Jool; without a name it returns all keys.
func (c *Client) GetConfig(ctx context.Context, key string) (v []ConfigKey, err error) {
	return v, c.get(ctx, "/v1/config?"+url.Values{"key": {key}}.Encode(), &v)
}

// SetConfig changes one key.
func (c *Client) SetConfig(ctx context.Context, change ConfigChange) (v ConfigResult, err error) {
	return v, c.post(ctx, "/v1/config/set", change, &v)
}

// Reload has the daemon read its configuration file again.
func (c *Client) Reload(ctx context.Context) (v ReloadResult, err error) {
	return v, c.post(ctx, "/v1/reload", nil, &v)
}

// Pause stops translation; bindings and sessions stay.
func (c *Client) Pause(ctx context.Context) error { return c.post(ctx, "/v1/pause", nil, &struct{}{}) }

// Resume takes translation up again.
func (c *Client) Resume(ctx context.Context) error {
	return c.post(ctx, "/v1/resume", nil, &struct{}{})
}

// Bindings hands every binding that the filter selects to yield, until that returns an error, which it then returns.
// Without an error the listing was complete.
func (c *Client) Bindings(ctx context.Context, f Filter, yield func(Binding) error) error {
	return receive(ctx, c, "/v1/bindings", f, yield)
}

// Sessions does for sessions what Bindings does for bindings.
func (c *Client) Sessions(ctx context.Context, f Filter, yield func(Session) error) error {
	return receive(ctx, c, "/v1/sessions", f, yield)
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

// short makes a request whose whole answer must come within the timeout.
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
func receive[T any](ctx context.Context, c *Client, path string, f Filter, yield func(T) error) error {
	r, err := c.do(ctx, http.MethodGet, path+"?"+f.values().Encode(), nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	dec := json.NewDecoder(r.Body)
	for n := 0; ; n++ {
		var l line[T]
		if err := dec.Decode(&l); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w: the listing broke off after %d entries; they are not all. nat64d ends a listing whose reader takes nothing for a minute: write it to a file first", ErrUnreachable, n)
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
		if err := yield(*l.Item); err != nil {
			return err
		}
	}
}

// do makes a request and returns an answer with status 200.
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

// dial connects to the daemon. Where the queue of a TCP socket would make it wait, that of a unix socket returns EAGAIN.
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

// unreachable says why a daemon could not be asked, and what to do.
func (c *Client) unreachable(err error) error {
	var netErr net.Error
	why := err.Error()
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, os.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		why = "nobody listens there; start nat64d, or name its socket with --socket"
	case errors.Is(err, os.ErrPermission):
		why = "permission denied; use sudo, or join the group that the socket belongs to"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		why = fmt.Sprintf("nothing was heard for %v; look at its log", c.timeout())
	}
	return fmt.Errorf("%w on %s: %s", ErrUnreachable, c.socket(), why)
}
