package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// values encodes the filter as the query of a request.
func (f *Filter) values() url.Values {
	v := url.Values{}
	for _, p := range f.Protocols {
		v.Add("protocol", p)
	}
	if f.Client.IsValid() {
		v.Set("client", f.Client.String())
	}
	if f.Peer.IsValid() {
		v.Set("peer", f.Peer.String())
	}
	if f.Limit > 0 {
		v.Set("limit", strconv.Itoa(f.Limit))
	}
	return v
}

// parseFilter decodes the query of a listing.
func parseFilter(v url.Values) (f Filter, err error) {
	for name, vs := range v {
		if name != "protocol" && len(vs) != 1 {
			return Filter{}, &Error{Message: name + " is given more than once"}
		}
		switch name {
		case "protocol":
			f.Protocols, err = vs, checkProtocols(vs)
		case "client":
			f.Client, err = ParseClient(vs[0])
		case "peer":
			f.Peer, err = ParsePeer(vs[0])
		case "limit":
			if f.Limit, err = strconv.Atoi(vs[0]); err != nil || f.Limit < 0 {
				err = &Error{Message: fmt.Sprintf("limit %q is not a number", vs[0]), Hint: "use 1 or more, or 0 for no limit"}
			}
		default:
			err = &Error{Message: fmt.Sprintf("unknown filter %q", name), Hint: "use protocol, client, peer and limit"}
		}
		if err != nil {
			return Filter{}, err
		}
	}
	return f, nil
}

// ParseClient parses the client of a Filter: an IPv6 address or prefix.
func ParseClient(s string) (netip.Prefix, error) {
	return parsePrefix(s, netip.Addr.Is6, "client", "an IPv6 address or prefix such as 2001:db8::/64")
}

// ParsePeer parses the peer of a Filter: an IPv4 address or prefix.
func ParsePeer(s string) (netip.Prefix, error) {
	return parsePrefix(s, netip.Addr.Is4, "peer", "an IPv4 address or prefix such as 192.0.2.0/24")
}

func parsePrefix(s string, family func(netip.Addr) bool, what, right string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if !strings.Contains(s, "/") {
		var a netip.Addr
		a, err = netip.ParseAddr(s)
		p = netip.PrefixFrom(a.WithZone(""), a.BitLen())
	}
	if err != nil || !family(p.Addr()) {
		return netip.Prefix{}, &Error{Message: fmt.Sprintf("%s %q is wrong", what, s), Hint: "use " + right}
	}
	return p.Masked(), nil
}
