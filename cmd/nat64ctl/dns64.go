package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newDNS64(a *app) *cobra.Command {
	c := group("dns64", "names for the IPv6-only network")
	cache := group("cache", "answers that are remembered")
	cache.AddCommand(newDNS64CacheList(a), newDNS64CacheFlush(a))
	c.AddCommand(newDNS64Status(a), cache, newDNS64Query(a), newDNS64Snippet(a))
	return c
}

func newDNS64Status(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "show the state of DNS64",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := a.client().DNS64(c.Context())
			if err != nil {
				return err
			}
			return printFields(a, s, dns64Fields(s))
		},
	}
}

func dns64Fields(s control.DNS64Status) []field {
	fs := []field{
		{"listen", cmp.Or(join(s.Listen), "NOWHERE")}, {"prefixes", join(s.Prefixes)}, {"clients", cmp.Or(join(s.Clients), "none: no client is answered")},
	}
	if len(s.ListenTLS) > 0 {
		fs = append(fs, field{"listen over TLS", join(s.ListenTLS)})
	}
	for _, c := range s.Closed {
		fs = append(fs, field{"NOT LISTENING", fmt.Sprintf("%v: %s", c.Address, c.Error)})
	}
	for _, u := range s.Upstreams {
		up := "up"
		if !u.Up {
			up = "DOWN since " + u.Since + ": " + u.Error
		}
		name := u.Upstream
		if len(u.Zones) > 0 {
			name += " for " + strings.Join(u.Zones, " ")
		}
		fs = append(fs, field{"upstream", fmt.Sprintf("%s, %s, %d asked, %d failed, %.1f ms", name, up, u.Asked, u.Failed, time.Duration(u.Latency).Seconds()*1e3)})
	}
	if n := len(s.Limited); n > 0 {
		const shown = 5
		fs = append(fs, field{"limited", fmt.Sprintf("%s in the last minute: %s", count(n, "client"), join(s.Limited[:min(n, shown)]))})
	}
	fs = append(fs, field{"cache", count(s.Cached, "answer")})
	for _, n := range s.Counters {
		if n.Value > 0 && n.Labels["upstream"] == "" {
			name := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(n.Name, "nat64_dns64_"), "_total"), "_", " ")
			if len(n.Labels) > 0 {
				name += " " + n.Labels["type"] + " " + n.Labels["result"]
			}
			fs = append(fs, field{name, strconv.FormatUint(n.Value, 10)})
		}
	}
	return fs
}

// join returns the values in one line.
func join[T fmt.Stringer](vs []T) string {
	words := make([]string, len(vs))
	for i, v := range vs {
		words[i] = v.String()
	}
	return strings.Join(words, ", ")
}

func newDNS64CacheList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "show the cached answers of upstreams and to clients",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := a.client().DNS64Cache(c.Context())
			if err != nil {
				return err
			}
			return printAll(a, []column[control.DNS64Cached]{
				{"NAME", "name", func(e control.DNS64Cached) string { return e.Name }, nil},
				{"TYPE", "type", func(e control.DNS64Cached) string { return e.Type }, nil},
				{"KIND", "kind", func(e control.DNS64Cached) string { return e.Kind }, nil},
				{"RESULT", "result", func(e control.DNS64Cached) string { return e.Result }, nil},
				{"RECORDS", "records", func(e control.DNS64Cached) string { return strconv.Itoa(e.Records) }, nil},
				{"TTL", "ttl_seconds", func(e control.DNS64Cached) string { return human(e.TTL) }, func(e control.DNS64Cached) string { return seconds(e.TTL) }},
				{"HITS", "hits", func(e control.DNS64Cached) string { return strconv.FormatUint(uint64(e.Hits), 10) }, nil},
			}, list)
		},
	}
}

func newDNS64CacheFlush(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "flush",
		Short: "empty the caches",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := a.client().FlushDNS64(c.Context())
			if err != nil {
				return err
			}
			if a.format != formatTable {
				return printFields(a, r, nil)
			}
			fmt.Fprintf(a.out, "forgot %s\n", count(r.Forgotten, "answer"))
			return nil
		},
	}
}

func newDNS64Query(a *app) *cobra.Command {
	var q control.DNS64Query
	var client string
	c := &cobra.Command{
		Use:   "query NAME",
		Short: "show the answer that clients get for a name",
		Example: `  nat64ctl dns64 query www.example.net
  nat64ctl dns64 query www.example.net --type A`,
		Args: arguments([]string{"NAME"}, nil),
		RunE: func(c *cobra.Command, args []string) (err error) {
			q.Name, q.Type = args[0], strings.ToUpper(q.Type)
			if client != "" {
				if q.Client, err = netip.ParseAddr(client); err != nil {
					return usageError{fmt.Errorf("--client %q is not an address", client), c.CommandPath()}
				}
			}
			r, err := a.client().QueryDNS64(c.Context(), q)
			if err != nil {
				return err
			}
			if a.format != formatTable {
				return printFields(a, r, nil)
			}
			for _, record := range r.Answer {
				fmt.Fprintln(a.out, record)
			}
			if len(r.Answer) == 0 {
				fmt.Fprintf(a.out, "%s, no records\n", r.Result)
			}
			for _, u := range r.Upstreams {
				if u.Failed {
					fmt.Fprintf(a.out, "upstream %s, asked for %s of %s: %s\n", u.Upstream, u.Type, u.Name, u.Outcome)
				}
			}
			return nil
		},
	}
	c.Flags().StringVar(&q.Type, "type", "AAAA", "type of the records")
	c.Flags().StringVar(&client, "client", "", "address of the client who is to have asked")
	return c
}

func newDNS64Snippet(a *app) *cobra.Command {
	servers := control.SnippetServers
	return &cobra.Command{
		Use:       "snippet " + strings.Join(servers, "|"),
		Short:     "print an equivalent configuration for another server",
		Example:   "  nat64ctl dns64 snippet bind",
		ValidArgs: servers,
		Args:      arguments([]string{"the server's name (" + strings.Join(servers, ", ") + ")"}, nil),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.client().Snippet(c.Context(), args[0])
			if err != nil {
				return err
			}
			if a.format != formatTable {
				return printFields(a, s, nil)
			}
			fmt.Fprint(a.out, s.Text)
			return nil
		},
	}
}
