package dns64

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"

	"nat64d/pool6"
)

type vectorQuestion struct {
	Name  string
	Type  string
	Class uint16
	CD    bool
	DO    bool
}

func (v vectorQuestion) question() Question {
	return Question{Name: dns.CanonicalName(v.Name), Type: dns.StringToType[v.Type], Class: v.Class, CD: v.CD, DO: v.DO, RD: true}
}

type vector struct {
	ID, Title string
	Config    struct {
		Prefixes []json.RawMessage
		Exclude  []string `json:"exclude_aaaa"`
		Validate bool
		Security string `json:"upstream_security"`
	}
	Query    vectorQuestion
	Upstream []struct {
		Query    vectorQuestion
		Response string `json:"response_hex"`
	}
	MustNotQuery []vectorQuestion `json:"must_not_query"`
	Expect       struct {
		AD      bool
		Example string `json:"example_hex"`
	}
}

func vectors(t testing.TB) []vector {
	b, err := os.ReadFile("testdata/dns64.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	return file.Vectors
}

// policy returns the Policy of a vector. Two prefixes without a range select both.
func (v *vector) policy(t testing.TB) *Policy {
	p := &Policy{Choice: All, Validated: v.Config.Validate}
	for _, raw := range v.Config.Prefixes {
		var row struct{ Prefix, Map string }
		if json.Unmarshal(raw, &row.Prefix) != nil {
			if err := json.Unmarshal(raw, &row); err != nil {
				t.Fatal(err)
			}
			p.Ranges = append(p.Ranges, Range{V4: netip.MustParsePrefix(row.Map), Prefix: len(p.Prefixes)})
		}
		prefix, err := pool6.ParsePrefix(row.Prefix)
		if err != nil {
			t.Fatal(err)
		}
		p.Prefixes = append(p.Prefixes, Prefix{Prefix: prefix, Private: !prefix.IsWellKnown()})
	}
	for _, e := range v.Config.Exclude {
		p.Exclude = append(p.Exclude, netip.MustParsePrefix(e))
	}
	return p
}

// ask is the upstream of a vector. A validating one sets AD for secure data and fails for bogus data. Without a response it does
// not answer.
func (v *vector) ask(t testing.TB, asked *sync.Map) Ask {
	return func(ctx context.Context, q Question) (*dns.Msg, error) {
		asked.Store(q.Name+dns.Type(q.Type).String(), true)
		for _, u := range v.Upstream {
			if want := u.Query.question(); want.Name != q.Name || want.Type != q.Type {
				continue
			}
			if u.Response == "" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			m := unpack(t, u.Response)
			m.AuthenticatedData = v.Config.Security == "secure"
			if v.Config.Security == "bogus" {
				m = failure(q)
			}
			return m, nil
		}
		return failure(q), nil
	}
}

func unpack(t testing.TB, text string) *dns.Msg {
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

// content returns an answer as text, without OPT.
func content(m *dns.Msg) string {
	m.Extra = slices.DeleteFunc(m.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	return fmt.Sprintf("%s\n%v\n%v\n%v", dns.RcodeToString[m.Rcode], m.Answer, m.Ns, m.Extra)
}

func TestVectors(t *testing.T) {
	t.Parallel()
	vs := vectors(t)
	if len(vs) != 41 {
		t.Fatalf("%d vectors, want 41", len(vs))
	}
	for _, v := range vs {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
				defer cancel()
				var asked sync.Map
				got := v.policy(t).Resolve(ctx, v.Query.question(), 0, v.ask(t, &asked))
				want := unpack(t, v.Expect.Example)
				if content(got.Msg) != content(want) || got.AuthenticatedData != v.Expect.AD {
					t.Errorf("%s:\ngot AD %v %s\nwant AD %v %s", v.Title, got.AuthenticatedData, content(got.Msg), v.Expect.AD, content(want))
				}
				for _, not := range v.MustNotQuery {
					if _, was := asked.Load(dns.CanonicalName(not.Name) + not.Type); was {
						t.Errorf("%s: %v was asked", v.Title, not)
					}
				}
			})
		})
	}
}
