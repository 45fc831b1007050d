package control

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
)

// Names is the DNS64 forwarder that the server shows. Its methods must be safe for concurrent use.
type Names interface {
	Version() Version
	Counters() []Counter
	DNS64() (DNS64Status, error)
	// DNS64Cache returns the cached answers.
	DNS64Cache() ([]DNS64Cached, error)
	FlushDNS64() (DNS64Flushed, error)
	// QueryDNS64 answers a query like one of a client.
	QueryDNS64(context.Context, DNS64Query) (DNS64Answer, error)
	// Snippet returns configuration for another server that matches this gateway. It needs no forwarder.
	Snippet(server string) (DNS64Snippet, error)
}

// DNS64Status is the state of the forwarder.
type DNS64Status struct {
	Listen    []netip.AddrPort `json:"listen"`
	ListenTLS []netip.AddrPort `json:"listen_tls,omitempty"`
	Closed    []DNS64Closed    `json:"closed,omitempty"` // addresses that nat64d cannot listen on; it keeps trying
	Prefixes  []netip.Prefix   `json:"prefixes"`
	Clients   []netip.Prefix   `json:"clients"` // prefixes whose clients are answered
	Upstreams []DNS64Upstream  `json:"upstreams"`
	Limited   []netip.Prefix   `json:"limited"` // clients that exceeded their rate limit within the last minute
	Cached    int              `json:"cached"`  // number of cached answers
	Counters  []Counter        `json:"counters"`
}

// DNS64Closed is an address that nat64d cannot listen on.
type DNS64Closed struct {
	Address netip.AddrPort `json:"address"`
	Error   string         `json:"error"`
}

// DNS64Upstream is a resolver that the forwarder queries.
type DNS64Upstream struct {
	Upstream string   `json:"upstream"`
	Zones    []string `json:"zones,omitempty"` // the domains that it serves, "." for all others; empty: only those
	Up       bool     `json:"up"`
	Since    string   `json:"down_since,omitempty"`
	Error    string   `json:"error,omitempty"` // why it is down
	Asked    uint64   `json:"asked"`
	Failed   uint64   `json:"failed"`          // queries without an answer
	Latency  Seconds  `json:"latency_seconds"` // a moving average
}

// DNS64Cached is a cached answer.
type DNS64Cached struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Result  string  `json:"result"`
	Kind    string  `json:"kind"` // upstream (as received) or answer (as sent to clients)
	TTL     Seconds `json:"ttl_seconds"`
	Hits    uint32  `json:"hits"`
	Records int     `json:"records"`
}

// DNS64Flushed is the result of a flush.
type DNS64Flushed struct {
	Forgotten int `json:"forgotten"`
}

// DNS64Query is a query.
type DNS64Query struct {
	Name   string
	Type   string     // empty: AAAA
	Client netip.Addr // selects the prefix if it depends on the client
}

// DNS64Answer is the answer to a query.
type DNS64Answer struct {
	Result    string   `json:"result"` // NOERROR, NXDOMAIN, SERVFAIL, …
	Answer    []string `json:"answer"` // records, as in a zone file
	Authority []string `json:"authority,omitempty"`
	Elapsed   Seconds  `json:"elapsed_seconds"`

	Upstreams []DNS64Attempt `json:"upstreams,omitempty"` // empty if the answer was cached
}

// DNS64Attempt is one query to one upstream.
type DNS64Attempt struct {
	Upstream string  `json:"upstream"`
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Outcome  string  `json:"outcome"` // its answer, or why there is none
	Failed   bool    `json:"failed"`
	Elapsed  Seconds `json:"elapsed_seconds"`
}

// SnippetServers are the servers that Names.Snippet supports.
var SnippetServers = []string{"bind", "unbound", "coredns", "radvd", "networkd", "resolved", "resolvconf", "nodelocaldns"}

// DNS64Snippet is part of another server's configuration.
type DNS64Snippet struct {
	Server string `json:"server"`
	Text   string `json:"text"`
}

// nameRoutes are the routes of the forwarder.
var nameRoutes = []route{
	{"GET", "/v1/dns64", ofNames(func(n Names, _ *http.Request) (DNS64Status, error) { return n.DNS64() })},
	{"GET", "/v1/dns64/cache", ofNames(func(n Names, _ *http.Request) ([]DNS64Cached, error) {
		l, err := n.DNS64Cache()
		return list(l), err
	})},
	{"GET", "/v1/dns64/query", ofNames(query64)},
	{"GET", "/v1/dns64/snippet", ofNames(func(n Names, r *http.Request) (DNS64Snippet, error) {
		return n.Snippet(r.URL.Query().Get("server"))
	})},
	{"POST", "/v1/dns64/flush", func(s *server, w http.ResponseWriter, r *http.Request) {
		result, err := s.names.FlushDNS64()
		s.done(w, r, result, err)
	}},
}

// aloneRoutes are the routes of the forwarder that a Backend, if present, serves instead.
var aloneRoutes = []route{
	{"GET", "/v1/version", ofNames(func(n Names, _ *http.Request) (Version, error) { return n.Version(), nil })},
	{"GET", "/v1/stats", ofNames(func(n Names, _ *http.Request) ([]Counter, error) { return list(n.Counters()), nil })},
}

// ofNames returns a handler that answers with the result of value.
func ofNames[T any](value func(Names, *http.Request) (T, error)) func(*server, http.ResponseWriter, *http.Request) {
	return func(s *server, w http.ResponseWriter, r *http.Request) {
		v, err := value(s.names, r)
		if err != nil {
			refuse(w, http.StatusUnprocessableEntity, err)
			return
		}
		answer(w, http.StatusOK, v)
	}
}

func query64(n Names, r *http.Request) (DNS64Answer, error) {
	v := r.URL.Query()
	q := DNS64Query{Name: v.Get("name"), Type: v.Get("type")}
	if text := v.Get("client"); text != "" {
		var err error
		if q.Client, err = netip.ParseAddr(text); err != nil {
			return DNS64Answer{}, &Error{Message: "client " + text + " is not an address", Hint: "use one such as 2001:db8::8"}
		}
	}
	return n.QueryDNS64(r.Context(), q)
}

// DNS64 returns the state of the forwarder.
func (c *Client) DNS64(ctx context.Context) (v DNS64Status, err error) {
	return v, c.get(ctx, "/v1/dns64", &v)
}

// DNS64Cache returns the cached answers.
func (c *Client) DNS64Cache(ctx context.Context) (v []DNS64Cached, err error) {
	return v, c.get(ctx, "/v1/dns64/cache", &v)
}

// FlushDNS64 removes all cached answers.
func (c *Client) FlushDNS64(ctx context.Context) (v DNS64Flushed, err error) {
	return v, c.post(ctx, "/v1/dns64/flush", nil, &v)
}

// QueryDNS64 answers a query like one of a client.
func (c *Client) QueryDNS64(ctx context.Context, q DNS64Query) (v DNS64Answer, err error) {
	p := url.Values{"name": {q.Name}, "type": {q.Type}}
	if q.Client.IsValid() {
		p.Set("client", q.Client.String())
	}
	return v, c.get(ctx, "/v1/dns64/query?"+p.Encode(), &v)
}

// Snippet returns configuration for another server that matches this gateway.
func (c *Client) Snippet(ctx context.Context, server string) (v DNS64Snippet, err error) {
	return v, c.get(ctx, "/v1/dns64/snippet?"+url.Values{"server": {server}}.Encode(), &v)
}
