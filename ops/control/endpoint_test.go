package control_test

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"nat64d/ops/control"
)

// Bindings and sessions are unchanged after a round trip through JSON, which has addresses and ports as separate
// values. 0 is a valid Identifier.
func TestRowsInJSON(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	b := control.Binding{Protocol: "icmp", Client: at("[2001:db8::8]:0"), Mapped: at("192.0.2.1:7042"), Static: true, Sessions: 3}
	checkJSON(t, b, `{"protocol":"icmp","client":"2001:db8::8","client_port":0,"mapped":"192.0.2.1","mapped_port":7042,"static":true,"sessions":3}`)
	s := control.Session{Protocol: "icmp", Client: b.Client, Peer6: at("[64:ff9b::c633:6407]:0"), Mapped: b.Mapped, Peer: at("198.51.100.7:0"), Expires: 1e9}
	checkJSON(t, s, `{"protocol":"icmp","client":"2001:db8::8","client_port":0,"mapped":"192.0.2.1","mapped_port":7042,`+
		`"peer":"198.51.100.7","peer_port":0,"peer6":"64:ff9b::c633:6407","peer6_port":0,"expires_seconds":1,"idle_seconds":0}`)
	stored := control.Session{Protocol: "tcp", Peer6: at("[64:ff9b::c633:6407]:80"), Mapped: b.Mapped, Peer: at("198.51.100.7:80"), State: "V4_INIT"}
	checkJSON(t, stored, `{"protocol":"tcp","mapped":"192.0.2.1","mapped_port":7042,"peer":"198.51.100.7","peer_port":80,`+
		`"peer6":"64:ff9b::c633:6407","peer6_port":80,"state":"V4_INIT","expires_seconds":0,"idle_seconds":0}`)
}

func checkJSON[T comparable](t *testing.T, row T, want string) {
	t.Helper()
	text, err := json.Marshal(row)
	if err != nil || string(text) != want {
		t.Errorf("%+v is %s, %v, want %s", row, text, err, want)
	}
	var back T
	if err := json.Unmarshal(text, &back); err != nil || back != row {
		t.Errorf("%s is read as %+v, %v, want %+v", text, back, err, row)
	}
}

// Rows have the JSON that encoding/json would give them.
func TestRowsAreEncodedAsJSON(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	for _, s := range []control.Session{
		{},
		{Protocol: "tcp", Client: at("[2001:db8::8]:65535"), Peer6: at("[64:ff9b::c633:6407]:443"), Mapped: at("192.0.2.1:1"), Peer: at("198.51.100.7:443"), State: "ESTABLISHED"},
		{Protocol: `a "<b>` + "\n\x00é", Client: at("[::]:0"), State: "\\", Expires: control.Seconds(time.Millisecond), Idle: control.Seconds(1<<62 + 1499*time.Microsecond)},
		{Expires: control.Seconds(-time.Second), Idle: control.Seconds(86400 * time.Second)},
	} {
		want, err := json.Marshal(control.SessionWire(s))
		if got, _ := json.Marshal(s); err != nil || string(got) != string(want) {
			t.Errorf("%+v is %s, want %s, %v", s, got, want, err)
		}
		b := control.Binding{Protocol: s.Protocol, Client: s.Client, Mapped: s.Mapped, Static: s.State != "", Sessions: len(s.Protocol)}
		want, err = json.Marshal(control.BindingWire(b))
		if got, _ := json.Marshal(b); err != nil || string(got) != string(want) {
			t.Errorf("%+v is %s, want %s, %v", b, got, want, err)
		}
	}
}

func BenchmarkSessionLine(b *testing.B) {
	at := netip.MustParseAddrPort
	s := control.Session{Protocol: "tcp", State: "ESTABLISHED", Expires: control.Seconds(1500 * time.Millisecond),
		Client: at("[2001:db8::8]:1"), Peer6: at("[64:ff9b::c633:6407]:443"), Mapped: at("192.0.2.1:2"), Peer: at("198.51.100.7:443")}
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		buf = control.AppendSession(buf[:0], &s)
	}
}
