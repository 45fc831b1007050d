package session_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/session"
	"nat64d/synstore"
	"nat64d/table"
)

type vectors struct {
	Count   int
	Vectors []vector
}

type vector struct {
	ID, Title, Note, Proto string
	Config                 struct {
		UDP   float64 `json:"udp_default"`
		ICMP  float64 `json:"icmp_default"`
		Est   float64 `json:"tcp_est"`
		Trans float64 `json:"tcp_trans"`
		Syn   float64 `json:"tcp_incoming_syn"`

		Filtering string
		Inbound   *bool `json:"inbound_refresh"`
	}
	Bib []struct {
		Proto, V6, V4 string
		P6, P4        uint16
	}
	Steps []vectorStep
}

type vectorStep struct {
	T         float64
	Event     string
	State     string
	Peer      string
	Forward   *string
	ExpiresIn any `json:"expires_in"`
	Emit      any
	Sessions  *int
	Bindings  *int `json:"bib_entries"`
}

func readVectors(t *testing.T, file string) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Vectors) != v.Count || v.Count == 0 {
		t.Fatalf("%s holds %d vectors and says %d", file, len(v.Vectors), v.Count)
	}
	return v.Vectors
}

func TestTCPVectors(t *testing.T) {
	t.Parallel()
	runVectors(t, "tcp_fsm.json")
}

func TestUDPAndICMPVectors(t *testing.T) {
	t.Parallel()
	runVectors(t, "udp_icmp_sessions.json")
}

func runVectors(t *testing.T, file string) {
	for _, v := range readVectors(t, file) {
		t.Run(v.ID, func(t *testing.T) {
			t.Parallel()
			c := newVectorRun(t, &v)
			for i := range v.Steps {
				if failed := c.step(&v.Steps[i]); failed != "" {
					t.Fatalf("%s: %s", v.Title, failed)
				}
			}
		})
	}
}

// vectorRun plays a vector: one client, which the vector's title and event words leave out.
type vectorRun struct {
	*gateway
	proto   packet.Proto
	client  packet.Endpoint6
	mapped  packet.Endpoint4
	remote  packet.Endpoint4
	probes  int
	refused []synstore.SYN
}

func newVectorRun(t *testing.T, v *vector) *vectorRun {
	conf := defaults
	set := func(d *time.Duration, s float64) {
		if s != 0 {
			*d = time.Duration(s * float64(time.Second))
		}
	}
	set(&conf.Timeouts.UDP, v.Config.UDP)
	set(&conf.Timeouts.ICMP, v.Config.ICMP)
	set(&conf.Timeouts.TCPEstablished, v.Config.Est)
	set(&conf.Timeouts.TCPOpening, v.Config.Trans)
	set(&conf.Timeouts.TCPTransitory, v.Config.Trans)
	limits := synLimits
	set(&limits.Lifetime, v.Config.Syn)
	conf.AddressDependent = v.Config.Filtering == "address-dependent"
	conf.InboundRefresh = v.Config.Inbound == nil || *v.Config.Inbound
	conf.AllowInboundTCP = !strings.Contains(v.Note, "drop_externally_initiated_tcp=true")

	r := &vectorRun{
		gateway: newGateway(t, 1, 1000, conf, "203.0.113.1", ""),
		proto:   protoOf(v.Proto),
		client:  endpoint6("2001:db8:1::10", 40000),
		mapped:  endpoint4("203.0.113.1", 50000),
		remote:  endpoint4("198.51.100.20", 80),
	}
	r.syns.Configure(limits)
	switch r.proto {
	case packet.UDP:
		r.client.Port, r.mapped.Port = 40001, 50001
	case packet.ICMP:
		r.client.Port, r.mapped.Port = 0x1111, 0x2222
	}
	for _, b := range v.Bib {
		err := r.bindings.AddStatic(protoOf(b.Proto), endpoint6(b.V6, b.P6), endpoint4(b.V4, b.P4))
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func protoOf(s string) packet.Proto {
	return map[string]packet.Proto{"": packet.TCP, "tcp": packet.TCP, "udp": packet.UDP, "icmp": packet.ICMP}[s]
}

// step plays one step and says what is wrong.
func (r *vectorRun) step(s *vectorStep) string {
	now := seconds(s.T)
	r.probes, r.refused = r.sweep(now), r.sweepSYNs(now)
	if s.Peer != "" {
		r.remote = peer(s.Peer)
	}
	if side, ok := r.play(s.Event, now); !ok {
		return "no such event: " + s.Event
	} else if s.Forward == nil && side != "" || s.Forward != nil && side != *s.Forward {
		return s.Event + ": leaves on side '" + side + "'"
	}
	return r.compare(s, now)
}

// play plays an event and returns the side on which the packet leaves. ICMP errors go through the gateway without a
// call to the session table.
func (r *vectorRun) play(event string, now table.Time) (side string, ok bool) {
	words := strings.Fields(event)
	if len(words) > 1 && (words[1] == "ICMP" || words[1] == "icmp4") {
		return map[string]string{"V4": "v6", "in": "v6", "V6": "v4"}[words[0]], true
	}
	ev := packet.Other
	if len(words) > 1 {
		ev = map[string]packet.TCPEvent{"SYN": packet.SYN, "FIN": packet.FIN, "RST": packet.RST}[words[1]]
	}
	switch words[0] {
	case "tick":
		return "", true
	case "V6", "out":
		mapped, why := r.from6(r.proto, r.client, r.remote, ev, now)
		if why != drop.None {
			return "", true
		}
		r.mapped = mapped
		return "v4", true
	case "V4", "in":
		if client, why := r.from4(r.proto, r.remote, r.mapped, ev, now); why != drop.None || client != r.client {
			return "", true
		}
		return "v6", true
	}
	return "", false
}

// compare compares the tables with what they should be.
func (r *vectorRun) compare(s *vectorStep, now table.Time) string {
	sessions, bindings := r.sizes()
	if s.Sessions != nil && *s.Sessions != sessions {
		return s.Event + ": wrong number of sessions"
	}
	if s.Bindings != nil && *s.Bindings != bindings {
		return s.Event + ": wrong number of bindings"
	}
	if s.Emit != nil && slices.Contains(texts(s.Emit), "probe") != (r.probes == 1) {
		return s.Event + ": wrong number of probes"
	}
	if slices.Contains(texts(s.Emit), "icmp4 3/3 quoting the SYN") != (len(r.refused) == 1) {
		return s.Event + ": wrong number of SYNs refused"
	}
	if slices.Contains(texts(s.Emit), "BIB entry removed") && bindings != 0 {
		return s.Event + ": the binding is still there"
	}
	watched, found := r.watched(now)
	if s.State != "" {
		state := session.Closed
		if found {
			state = watched.State
		}
		if state.String() != s.State {
			return s.Event + ": in state " + state.String()
		}
	}
	if s.ExpiresIn != nil && (!found || !slices.ContainsFunc(numbers(s.ExpiresIn), func(want float64) bool {
		return math.Abs(watched.Remaining.Seconds()-want) <= 1
	})) {
		return s.Event + ": expires in " + watched.Remaining.String()
	}
	return ""
}

// watched returns the session of the last packet, or the one that is left, a stored SYN being one.
func (r *vectorRun) watched(now table.Time) (session.Session, bool) {
	all := r.list(now)
	for _, s := range r.syns.List(now.Duration()) {
		all = append(all, session.Session{Proto: packet.TCP, Remote: s.Src, State: session.V4Init, Remaining: s.Remaining})
	}
	for _, s := range all {
		if s.Remote.Addr == r.remote.Addr && s.Proto == r.proto {
			return s, true
		}
	}
	if len(all) == 1 {
		return all[0], true
	}
	return session.Session{}, false
}

func peer(s string) packet.Endpoint4 {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return packet.Endpoint4{Addr: a.Addr().As4(), Port: a.Port()}
	}
	return endpoint4(s, 0)
}

// texts returns the texts of a JSON value that is one or a list of them.
func texts(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			all = append(all, texts(e)...)
		}
	}
	return all
}

// numbers returns the numbers of a JSON value that is one or a list of them.
func numbers(v any) (all []float64) {
	switch v := v.(type) {
	case float64:
		return []float64{v}
	case []any:
		for _, e := range v {
			all = append(all, numbers(e)...)
		}
	}
	return all
}
