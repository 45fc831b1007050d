package dns64

import (
	"context"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Ask returns the answer to a question. The caller owns the message.
type Ask func(context.Context, Question) (*dns.Msg, error)

const (
	// headStart delays the query for A after that for AAAA. Later both run in parallel (RFC 6147 section 5.1.8). Many answers
	// arrive sooner, from a cache or a near upstream, and often make the query for A unnecessary.
	headStart = 5 * time.Millisecond
	// patience bounds the wait for AAAA if addresses can be synthesized from A (RFC 6147 section 5.1.3). If A took longer, the
	// bound is that time again, because the upstreams are slow for both types.
	patience = 1500 * time.Millisecond
)

// toTheEnd asks a question, and another about the end of a chain of CNAMEs if the answer does not include its records: a
// forwarder or an authoritative server may leave that to its client.
func (ask Ask) toTheEnd(ctx context.Context, q Question) (*dns.Msg, error) {
	m, err := ask(ctx, q)
	for range maxChain {
		end, dangles := dangling(q, m)
		if err != nil || !dangles {
			break
		}
		next, err := ask(ctx, q.of(end, q.Type))
		if err != nil {
			next = failure(q)
		}
		m.Answer, m.Ns, m.Extra, m.Rcode = append(m.Answer, next.Answer...), next.Ns, next.Extra, next.Rcode
		m.AuthenticatedData = m.AuthenticatedData && next.AuthenticatedData
		if len(next.Answer) == 0 {
			break
		}
	}
	return m, err
}

// dangling returns the end of an answer's chain and reports whether the answer lacks its records. The answer to a question about
// the chain itself is complete, and a client that validates follows the chain itself.
func dangling(q Question, m *dns.Msg) (end string, dangles bool) {
	if m == nil || m.Rcode != dns.RcodeSuccess || q.CD && q.DO {
		return "", false
	}
	switch q.Type {
	case dns.TypeCNAME, dns.TypeDNAME, dns.TypeANY, dns.TypeRRSIG, dns.TypeNSEC:
		return "", false
	}
	end, chain, ok := follow(m, q.Name)
	if !ok || len(chain) == 0 {
		return "", false
	}
	said := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Type && same(rr.Header().Name, end) }) ||
		slices.ContainsFunc(m.Ns, isSOA)
	return end, !said
}

// Answer is the answer to a question.
type Answer struct {
	*dns.Msg
	Made        bool // has synthesized records
	Local       bool // found without upstreams
	Provisional bool // provisional: synthesized before the answer about AAAA arrived
}

// Resolve answers a question (RFC 6147 section 5). pick is the index of the chosen prefix.
func (p *Policy) Resolve(ctx context.Context, q Question, pick int, ask Ask) Answer {
	a := p.resolve(ctx, q, pick, ask)
	a.AuthenticatedData = a.AuthenticatedData && p.Validated // otherwise an attacker on the path may have set it
	return a
}

func (p *Policy) resolve(ctx context.Context, q Question, pick int, ask Ask) Answer {
	if m, ok := p.local(q); ok {
		return Answer{Msg: m, Made: q.Type == dns.TypeAAAA, Local: true}
	}
	if name, v4, ok := p.reverse(q); ok {
		if isWellKnown(v4) {
			return Answer{Msg: ownPointer(q), Made: true, Local: true}
		}
		m, made := p.pointer(q, await(ctx, start(ctx, q.of(name, dns.TypePTR), ask.toTheEnd)), name)
		return Answer{Msg: m, Made: made}
	}
	var a Answer
	if p.concerns(q) {
		a = p.resolveAAAA(ctx, q, pick, ask)
	} else {
		a.Msg = p.pass(q, await(ctx, start(ctx, q, ask.toTheEnd)))
	}
	if p.inhabited(q) {
		a.Msg = exists(q, a.Msg)
	}
	a.Msg = p.filter(ctx, q, a.Msg, ask)
	return a
}

// resolveAAAA asks for AAAA and, if needed, for A.
func (p *Policy) resolveAAAA(ctx context.Context, q Question, pick int, ask Ask) Answer {
	ask = ask.toTheEnd
	real := start(ctx, q, ask)
	late := time.NewTimer(headStart)
	defer late.Stop()
	var aaaa, a *dns.Msg
	select {
	case aaaa = <-real:
		if p.decides(q, aaaa) {
			had := addressed(aaaa, nil)
			return Answer{Msg: withSOA(ctx, q, p.pass(q, aaaa), had, ask)}
		}
		end, _, ok := follow(aaaa, q.Name)
		if !ok {
			return Answer{Msg: failure(q)}
		}
		a = await(ctx, start(ctx, q.of(end, dns.TypeA), ask))
	case <-late.C:
		ipv4 := start(ctx, q.of(q.Name, dns.TypeA), ask)
		aaaa, a = p.both(ctx, q, pick, real, ipv4)
	}
	provisional := aaaa == nil || !conclusive(aaaa.Rcode)
	had := addressed(aaaa, a)
	m, made := p.Synthesize(q, aaaa, a, pick)
	if made && p.bogus(ctx, q, aaaa, ask) {
		return Answer{Msg: failure(q)}
	}
	return Answer{Msg: withSOA(ctx, q, m, had, ask), Made: made, Provisional: provisional}
}

// addressed reports whether an answer has addresses. After their removal it may have neither records nor an SOA.
func addressed(aaaa, a *dns.Msg) bool { return carries(aaaa, dns.TypeAAAA) || carries(a, dns.TypeA) }

func carries(m *dns.Msg, kind uint16) bool {
	return m != nil && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == kind })
}

// withSOA completes an answer that lost all addresses because they are excluded or cannot be embedded. It is now negative, and
// withSOA asks for the SOA that clients need to cache it as such (RFC 2308 section 2.2).
func withSOA(ctx context.Context, q Question, m *dns.Msg, had bool, ask Ask) *dns.Msg {
	if !had || m.Rcode != dns.RcodeSuccess || carries(m, q.Type) || slices.ContainsFunc(m.Ns, isSOA) {
		return m
	}
	soa := zoneSOA(ctx, q, m, ask)
	if soa == nil {
		return failure(q)
	}
	m.Ns = []dns.RR{soa}
	return m
}

// zoneSOA asks for the SOA of the zone at the end of an answer's chain, and returns it with the TTL of a negative answer, or nil.
func zoneSOA(ctx context.Context, q Question, m *dns.Msg, ask Ask) dns.RR {
	end, _, _ := follow(m, q.Name)
	r := await(ctx, start(ctx, q.of(end, dns.TypeSOA), ask))
	if r == nil {
		return nil
	}
	for _, rr := range slices.Concat(r.Answer, r.Ns) {
		if soa, is := rr.(*dns.SOA); is {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
			return soa
		}
	}
	return nil
}

func isSOA(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }

// bogus reports whether validating upstreams failed because the answer is bogus (RFC 6147 section 5.5): they do answer with
// checking disabled. Such a failure must not lead to a synthesized answer.
func (p *Policy) bogus(ctx context.Context, q Question, aaaa *dns.Msg, ask Ask) bool {
	if !p.Validated || q.CD || aaaa == nil || aaaa.Rcode != dns.RcodeServerFailure {
		return false
	}
	q.CD = true
	unchecked := await(ctx, start(ctx, q, ask))
	return unchecked != nil && conclusive(unchecked.Rcode)
}

// both waits for the answers to both questions. It does not wait for A if AAAA decides, and only a bounded time for AAAA if A
// suffices.
func (p *Policy) both(ctx context.Context, q Question, pick int, real, ipv4 <-chan *dns.Msg) (aaaa, a *dns.Msg) {
	began := time.Now()
	var giveUp <-chan time.Time
	for real != nil || ipv4 != nil {
		select {
		case aaaa = <-real:
			if real = nil; p.decides(q, aaaa) {
				return aaaa, nil
			}
		case a = <-ipv4:
			ipv4 = nil
			if took := time.Since(began); p.suffices(q, a, pick) {
				giveUp = time.After(max(patience-headStart-took, took))
			}
		case <-giveUp:
			return nil, a
		case <-ctx.Done():
			return aaaa, a
		}
	}
	return aaaa, a
}

// suffices reports whether addresses may be synthesized from an answer about A without waiting for AAAA.
func (p *Policy) suffices(q Question, a *dns.Msg, pick int) bool {
	if p.ServfailOnError || a == nil || a.Rcode != dns.RcodeSuccess || p.proves(q, a, dns.TypeA) {
		return false
	}
	_, found, _ := p.convert(q, nil, a, pick)
	return found
}

// start asks a question in a goroutine, which sends the answer, or nil without one.
func start(ctx context.Context, q Question, ask Ask) <-chan *dns.Msg {
	c := make(chan *dns.Msg, 1)
	go func() {
		var m *dns.Msg
		defer func() {
			recover() // an answer that triggers a bug counts as none
			c <- m
		}()
		if r, err := ask(ctx, q); err == nil {
			m = r
		}
	}()
	return c
}

// await returns an answer, or nil after the timeout.
func await(ctx context.Context, c <-chan *dns.Msg) *dns.Msg {
	select {
	case m := <-c:
		return m
	case <-ctx.Done():
		return nil
	}
}
