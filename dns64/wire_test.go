package dns64

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// packed returns a query in wire format.
func packed(t testing.TB, name string, set func(*dns.Msg)) []byte {
	t.Helper()
	q := new(dns.Msg).SetQuestion(name, dns.TypeAAAA)
	if set != nil {
		set(q)
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A parsed query is one for miekg/dns as well, with the same content, and each answer can be parsed.
func FuzzParseQuery(f *testing.F) {
	f.Add(packed(f, "h.example.com.", nil))
	f.Add(packed(f, "H.Example.com.", func(q *dns.Msg) { q.SetEdns0(4096, true); q.CheckingDisabled = true }))
	f.Add(packed(f, ".", func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, rcode, ok := parseQuery(b)
		if !ok {
			return
		}
		var m dns.Msg
		if err := m.Unpack(q.appendRefusal(nil, rcode, 0, 1232)); err != nil {
			t.Fatalf("the refusal cannot be read: %v", err)
		}
		if rcode != dns.RcodeSuccess {
			return
		}
		got, err := q.asked()
		if err != nil || m.Unpack(b) != nil {
			return
		}
		if want := m.Question[0]; !same(got.Name, want.Name) || got.Type != want.Qtype || got.Class != want.Qclass || m.Id != q.id {
			t.Errorf("read %+v of %v", got, &m)
		}
		if o := m.IsEdns0(); o != nil && (!q.edns || o.Do() != q.do || max(o.UDPSize(), dns.MinMsgSize) != q.size) {
			t.Errorf("read %+v of %v", q, o)
		}
	})
}

// Each accepted answer of an upstream has its question, and can be cached and sent.
func FuzzParseAnswer(f *testing.F) {
	q := Question{Name: "h.example.com.", Type: dns.TypeA, Class: dns.ClassINET}
	sent, err := ask(q, false, false)
	if err != nil {
		f.Fatal(err)
	}
	for _, v := range vectors(f) {
		for _, u := range v.Upstream {
			if u.Response != "" {
				b, _ := unpack(f, u.Response).Pack()
				f.Add(append(b[6:headerLen:headerLen], b[headerLen+nameLen(b[headerLen:])+4:]...)) // without the question
			}
		}
	}
	f.Fuzz(func(t *testing.T, rest []byte) {
		if len(rest) < 6 {
			return
		}
		b := append([]byte{sent[0], sent[1], 0x81, 0x80, 0, 1}, rest[:6]...)
		b = append(b, sent[headerLen:len(sent)-optLen]...)
		m, err := parseAnswer(sent, append(b, rest[6:]...), false)
		if err != nil {
			return
		}
		if m.Question[0].Name != q.Name || m.IsEdns0() != nil {
			t.Errorf("got %v", m)
		}
		e, err := newReadableEntry(q, m, time.Unix(1, 0))
		if err != nil {
			return
		}
		if m, err = e.message(time.Unix(2, 0)); err != nil {
			t.Fatalf("what was remembered cannot be read: %v: %v", err, m)
		}
		if e, err = newEntry(q, m, true, time.Unix(2, 0)); err == nil {
			_, err = e.message(time.Unix(3, 0))
		}
		if err != nil {
			t.Errorf("what was read cannot be passed on: %v: %v", err, m)
		}
	})
}

// hit returns a forwarder that has the answer to a query in its cache, with the query and its client.
func hit(t testing.TB) (f *Forwarder, packet []byte, who client) {
	up := startFake(t, zone(t, a7))
	f = New(testConfig(t, up.udp), nil)
	packet = packed(t, "H.example.com.", func(q *dns.Msg) { q.SetEdns0(1232, false) })
	who = client{addr: netip.MustParseAddr("127.0.0.1")}
	_, j, _ := f.answer(nil, packet, &who, time.Now())
	if _, o := j.run(f.acquire(t.Context(), j.s, who.addr), nil, packet, &who); o != answered {
		t.Fatal("no answer")
	}
	return f, packet, who
}

func TestKnownAnswersAreSentWithoutAllocating(t *testing.T) {
	f, packet, who := hit(t)
	out, now := make([]byte, 0, 512), time.Now()
	var o outcome
	if n := testing.AllocsPerRun(1000, func() { _, _, o = f.answer(out, packet, &who, now) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if o != answered {
		t.Errorf("got %v", o)
	}
}

func BenchmarkKnownAnswer(b *testing.B) {
	f, packet, who := hit(b)
	out, now := make([]byte, 0, 512), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		f.answer(out, packet, &who, now)
	}
}
