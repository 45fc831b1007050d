package dns64

import (
	"context"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// Ask finds the answer to a question, which the caller then owns. With an error there is none.
type Ask func(context.Context, Question) (*dns.Msg, error)

const (
	// headStart is how long A waits for AAAA: beyond it the two are asked in parallel (RFC 6147 section 5.1.8), and the
	// many answers that are there sooner, from a cache or a near upstream, spare a question that may be in vain.
	headStart = 5 * time.Millisecond
	// patience is how long AAAA is waited for when addresses can be made of A (RFC 6147 section 5.1.3), or as long again as A
	// took, where that is longer: upstreams are slow then, and not only about AAAA.
	patience = 1500 * time.Millisecond
)

// toTheEnd asks, and asks again at the end of a chain of CNAMEs of which nothing is said there: an upstream that is a forwarder
// or an authority may leave that to us.
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

// dangling returns the end of an answer's chain, and whether the answer leaves open what is there.
func dangling(q Question, m *dns.Msg) (end string, dangles bool) {
	if m == nil || m.Rcode != dns.RcodeSuccess {
		return "", false
	}
	end, chain, ok := follow(m, q.Name)
	if !ok || len(chain) == 0 {
		return "", false
	}
	said := slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == q.Type && same(rr.Header().Name, end) }) ||
		slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
	return end, !said
}

// Answer is what a question was answered with.
type Answer struct {
	*dns.Msg
	Made  bool // it has records that were made up
	Local bool // nobody was asked
	Hasty bool // it was given although nobody knows whether there are AAAA records
}

// Resolve answers a question (RFC 6147 section 5). pick is the prefix to use where p leaves a choice.
func (p *Policy) Resolve(ctx context.Context, q Question, pick int, ask Ask) Answer {
	a := p.resolve(ctx, q, pick, ask)
	a.AuthenticatedData = a.AuthenticatedData && p.Validated // else whoever is between upstreams and us may have set it
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
		a.Msg = p.pass(q, await(ctx, start(ctx, q, ask)))
	}
	if p.inhabited(q) {
		a.Msg = exists(q, a.Msg)
	}
	return a
}

// resolveAAAA asks for AAAA and, as far as needed, for A.
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
	hasty := aaaa == nil || !conclusive(aaaa.Rcode)
	had := addressed(aaaa, a)
	m, made := p.Synthesize(q, aaaa, a, pick)
	if made && p.bogus(ctx, q, aaaa, ask) {
		return Answer{Msg: failure(q)}
	}
	return Answer{Msg: withSOA(ctx, q, m, had, ask), Made: made, Hasty: hasty}
}

// addressed reports whether answers have addresses: without these they may be left with neither records nor an SOA.
func addressed(aaaa, a *dns.Msg) bool { return carries(aaaa, dns.TypeAAAA) || carries(a, dns.TypeA) }

func carries(m *dns.Msg, kind uint16) bool {
	return m != nil && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == kind })
}

// withSOA completes an answer of which all addresses had to be taken out, because they are excluded or cannot be embedded: it is
// a negative one now, and the SOA without which clients may not take it for one (RFC 2308 section 2.2) is asked for.
func withSOA(ctx context.Context, q Question, m *dns.Msg, had bool, ask Ask) *dns.Msg {
	isSOA := func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA }
	if !had || m.Rcode != dns.RcodeSuccess || carries(m, q.Type) || slices.ContainsFunc(m.Ns, isSOA) {
		return m
	}
	end, _, _ := follow(m, q.Name)
	r := await(ctx, start(ctx, q.of(end, dns.TypeSOA), ask))
	if r == nil {
		return failure(q)
	}
	for _, rr := range slices.Concat(r.Answer, r.Ns) {
		if soa, is := rr.(*dns.SOA); is {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
			m.Ns = []dns.RR{soa}
			return m
		}
	}
	return failure(q)
}

// bogus says whether upstreams that validate failed to answer because they did not believe the answer, which then must not
// count as none (RFC 6147 section 5.5): they have one for who does not want it checked.
func (p *Policy) bogus(ctx context.Context, q Question, aaaa *dns.Msg, ask Ask) bool {
	if !p.Validated || q.CD || aaaa == nil || aaaa.Rcode != dns.RcodeServerFailure {
		return false
	}
	q.CD = true
	unchecked := await(ctx, start(ctx, q, ask))
	return unchecked != nil && conclusive(unchecked.Rcode)
}

// both waits for the answers to two questions, but not for A if it is not needed, and for AAAA only for so long when A is
// enough.
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

// suffices says whether an answer about A is worth more than the wait for AAAA: if addresses may be made of it alone.
func (p *Policy) suffices(q Question, a *dns.Msg, pick int) bool {
	if p.ServfailOnError || a == nil || a.Rcode != dns.RcodeSuccess || p.proves(q, a, dns.TypeA) {
		return false
	}
	_, found, _ := p.convert(q, nil, a, pick)
	return found
}

// start asks, and sends the answer, or nil if there is none.
func start(ctx context.Context, q Question, ask Ask) <-chan *dns.Msg {
	c := make(chan *dns.Msg, 1)
	go func() {
		var m *dns.Msg
		defer func() {
			recover() // an answer that trips over us is none; the rest goes on
			c <- m
		}()
		if r, err := ask(ctx, q); err == nil {
			m = r
		}
	}()
	return c
}

// await returns an answer, or nil if there is none in time.
func await(ctx context.Context, c <-chan *dns.Msg) *dns.Msg {
	select {
	case m := <-c:
		return m
	case <-ctx.Done():
		return nil
	}
}
