package dns64

import (
	"crypto/tls"
	"slices"

	"github.com/miekg/dns"
)

// Zone is a domain with upstreams of its own, such as that of a cluster or a company network. The domain is fully qualified and
// in lower case. If several zones contain a name, the longest match wins. Names in a zone are never asked for elsewhere, also
// while its upstreams do not answer.
type Zone struct {
	Domain    string
	Upstreams []Upstream
}

// group is the upstreams of a zone, or those of the names outside of zones, whose apex is the root.
type group struct {
	apex    string
	list    []*upstream
	silence *silence
}

// is reports whether a group is that of a zone.
func (g *group) is(z Zone) bool {
	return g.apex == z.Domain && slices.EqualFunc(g.list, z.Upstreams, func(a *upstream, b Upstream) bool { return a.Upstream == b })
}

// alive returns the question with which an upstream is checked: a server that has only one zone may ignore questions about the
// root.
func (u *upstream) alive() Question {
	q := Question{Name: u.zones[0], Type: dns.TypeSOA, Class: dns.ClassINET, RD: true}
	if q.Name == "." {
		q.Type = dns.TypeNS
	}
	return q
}

// join adds a group. An upstream of several groups is one object, with one state.
func (us *Upstreams) join(z Zone, base *tls.Config) *group {
	g := &group{apex: z.Domain, silence: newSilence()}
	for _, u := range z.Upstreams {
		i := slices.IndexFunc(us.list, func(o *upstream) bool { return o.Upstream == u })
		if i < 0 {
			i = len(us.list)
			us.list = append(us.list, newUpstream(u, base))
		}
		if o := us.list[i]; !slices.Contains(o.zones, z.Domain) {
			o.zones = append(o.zones, z.Domain)
		}
		g.list = append(g.list, us.list[i])
	}
	return g
}

// group returns the group of the longest zone that contains a name.
func (us *Upstreams) group(name string) *group {
	best, labels := us.rest, 0
	for _, g := range us.zones {
		if n := dns.CountLabel(g.apex); n > labels && dns.IsSubDomain(g.apex, name) {
			best, labels = g, n
		}
	}
	return best
}

// zoned reports whether a name is in a zone.
func (us *Upstreams) zoned(name string) bool { return us.group(name) != us.rest }

// Down returns the zones of which no upstream answers, "." for the names outside of zones.
func (us *Upstreams) Down() (domains []string) {
	for _, g := range append([]*group{us.rest}, us.zones...) {
		if !slices.ContainsFunc(g.list, (*upstream).up) {
			domains = append(domains, g.apex)
		}
	}
	return domains
}
