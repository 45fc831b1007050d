package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxBody bounds the body of a request, which is one Pool4Change.
const maxBody = 64 << 10

var protocols = []string{"tcp", "udp", "icmp"}

// checkProtocols refuses names that are no protocol.
func checkProtocols(names []string) error {
	for _, p := range names {
		if !slices.Contains(protocols, p) {
			return &Error{Message: fmt.Sprintf("%q is not a protocol", p), Hint: "use tcp, udp or icmp"}
		}
	}
	return nil
}

// decodeChange reads the body of a change to pool4. What the addresses and ports mean is for the Backend to say.
func decodeChange(r io.Reader) (Pool4Change, error) {
	var c Pool4Change
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return Pool4Change{}, badBody(err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return Pool4Change{}, &Error{Message: "the request goes on after its JSON object"}
	}
	return c, checkProtocols(c.Protocols)
}

func badBody(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{Message: fmt.Sprintf("the request is larger than %d bytes", large.Limit)}
	}
	return &Error{Message: "the request is not a change to pool4: " + err.Error(), Hint: `send {"addresses": "192.0.2.1", "ports": "7000-8000"}`}
}

// values returns the filter as the query of a request.
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

// parseFilter reads the query of a listing.
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

// ParseClient reads the client of a Filter: an IPv6 address, or a prefix of them.
func ParseClient(s string) (netip.Prefix, error) {
	return parsePrefix(s, netip.Addr.Is6, "client", "an IPv6 address or prefix such as 2001:db8::/64")
}

// ParsePeer reads the peer of a Filter: an IPv4 address, or a prefix of them.
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
