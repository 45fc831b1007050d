package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
)

// maxBody is the maximum length of a request body.
const maxBody = 64 << 10

var protocols = []string{"tcp", "udp", "icmp"}

// checkProtocols returns an error if a name is not a protocol.
func checkProtocols(names []string) error {
	for _, p := range names {
		if !slices.Contains(protocols, p) {
			return &Error{Message: fmt.Sprintf("%q is not a protocol", p), Hint: "use tcp, udp or icmp"}
		}
	}
	return nil
}

// changing is the body of a request for a change. The Backend interprets its texts.
type changing interface {
	check() error       // checks the syntax
	attrs() []slog.Attr // attributes for the log
	example() string    // a valid body
}

func (c Pool4Change) check() error { return checkProtocols(c.Protocols) }
func (c Pool4Change) attrs() []slog.Attr {
	return []slog.Attr{slog.String("addresses", c.Addresses), slog.String("ports", c.Ports)}
}
func (Pool4Change) example() string { return `{"addresses": "192.0.2.1", "ports": "7000-8000"}` }

func (c Pool6Change) check() error       { return nil }
func (c Pool6Change) attrs() []slog.Attr { return []slog.Attr{slog.String("prefix", c.Prefix)} }
func (Pool6Change) example() string      { return `{"prefix": "64:ff9b::/96"}` }

func (c BindingChange) check() error {
	if c.Client == "" && c.Mapped == "" {
		return &Error{Message: "the request names no binding", Hint: "send " + c.example()}
	}
	return checkProtocols(c.Protocols)
}
func (c BindingChange) attrs() []slog.Attr {
	return []slog.Attr{slog.Any("protocols", c.Protocols), slog.String("client", c.Client), slog.String("mapped", c.Mapped)}
}
func (BindingChange) example() string {
	return `{"protocols": ["tcp"], "client": "[2001:db8::5]:80", "mapped": "192.0.2.1:80"}`
}

func (c ConfigChange) check() error {
	if c.Key == "" {
		return &Error{Message: "the request names no key", Hint: "send " + c.example()}
	}
	return nil
}
func (c ConfigChange) attrs() []slog.Attr {
	return []slog.Attr{slog.String("key", c.Key), slog.String("value", c.Value), slog.Bool("persist", c.Persist)}
}
func (ConfigChange) example() string { return `{"key": "sessions.timeouts.udp", "value": "5m"}` }

func (c SessionChange) check() error {
	f, err := c.Filter()
	switch {
	case err != nil:
		return err
	case len(f.values()) == 0 && !c.All:
		return &Error{Message: "the request selects no session", Hint: "send " + c.example() + `, or {"all": true} for all of them`}
	}
	return nil
}
func (c SessionChange) attrs() []slog.Attr {
	return []slog.Attr{
		slog.Any("protocols", c.Protocols), slog.String("client", c.Client), slog.String("peer", c.Peer), slog.String("mapped", c.Mapped),
		slog.String("port", c.Port), slog.Any("states", c.States), slog.String("older", c.Older), slog.Bool("all", c.All),
	}
}
func (SessionChange) example() string { return `{"protocols": ["tcp"], "client": "2001:db8::5"}` }

// decodeChange decodes the body of a change.
func decodeChange[C changing](r io.Reader) (c C, err error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		var empty C
		return empty, badBody(err, empty.example())
	}
	if _, err := dec.Token(); err != io.EOF {
		return c, &Error{Message: "unexpected data after the JSON object"}
	}
	return c, c.check()
}

func badBody(err error, example string) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{Message: fmt.Sprintf("the request is larger than %d bytes", large.Limit)}
	}
	return &Error{Message: "cannot read the request: " + err.Error(), Hint: "send " + example}
}
