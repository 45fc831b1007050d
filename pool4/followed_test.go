package pool4

import (
	"net/netip"
	"strings"
	"testing"

	"nat64d/packet"
)

func TestSplitInterface(t *testing.T) {
	t.Parallel()
	for word, want := range map[string][2]string{
		"interface:eth1":             {"eth1", ""},
		"interface:eth1:61000-61999": {"eth1", "61000-61999"},
		"interface:eth1 7000":        {"eth1", "7000"},
		"interface:eth1.7":           {"eth1.7", ""},
		"interface:eth1:":            {"eth1:", ""}, // ParseFollowed refuses it
		"interface:":                 {"", ""},
	} {
		if name, ports, ok := SplitInterface(word); !ok || name != want[0] || ports != want[1] {
			t.Errorf("%q: interface %q, ports %q, %v; want %q", word, name, ports, ok, want)
		}
	}
	for _, word := range []string{"", "10.0.2.15", "interface", "eth1"} {
		if _, _, ok := SplitInterface(word); ok {
			t.Errorf("%q is read as an interface", word)
		}
	}
}

func TestParseFollowed(t *testing.T) {
	t.Parallel()
	rows, err := ParseFollowed("eth1", "")
	if err != nil || len(rows) != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
	a := netip.MustParseAddr("192.0.2.1")
	for _, r := range rows {
		if want := (Entry{Addr: a, Proto: r.Proto, Lo: 61000, Hi: 65535}); r.Entry(a, 61000) != want {
			t.Errorf("%v stands for %v, want %v", r, r.Entry(a, 61000), want)
		}
	}
	rows, err = ParseFollowed("eth1", "7000-8000", packet.ICMP)
	if err != nil || len(rows) != 1 || rows[0].Entry(a, 61000).String() != "icmp 192.0.2.1 7000-8000" || rows[0].String() != "icmp interface:eth1 7000-8000" {
		t.Errorf("%v, %v", rows, err)
	}
	for _, bad := range [][2]string{
		{"", ""}, {"a name", ""}, {"a/b", ""}, {"a:b", ""}, {"..", ""}, {"longer-than-fifteen", ""}, {"eth1", "x"}, {"eth1", "0"}, {"eth1", "9-8"},
	} {
		if rows, err := ParseFollowed(bad[0], bad[1]); err == nil || !strings.HasPrefix(err.Error(), "pool4: ") {
			t.Errorf("%q: %v, %v", bad, rows, err)
		}
	}
}

// FuzzParseFollowed: an accepted word names an interface that the kernel permits, and prints as an accepted word with the same meaning.
func FuzzParseFollowed(f *testing.F) {
	for _, s := range []string{"interface:eth1", "interface:eth1:7000-8000", "interface:a#7", "interface::", "interface:eth1:0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, word string) {
		name, ports, ok := SplitInterface(word)
		if !ok {
			return
		}
		rows, err := ParseFollowed(name, ports, packet.UDP)
		if err != nil {
			return
		}
		again := strings.TrimPrefix(rows[0].String(), "udp ")
		name, ports, _ = SplitInterface(again)
		if same, err := ParseFollowed(name, ports, packet.UDP); err != nil || same[0] != rows[0] {
			t.Errorf("%q: %+v, and %q: %+v, %v", word, rows[0], again, same, err)
		}
	})
}

// UseOf counts the ports of bindings that have left the pool.
func TestUseOfRemovedRange(t *testing.T) {
	t.Parallel()
	p := New([16]byte{})
	entries, err := ParseRange("192.0.2.1", "7000-7009", packet.UDP)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.Add(entries); err != nil {
		t.Fatal(err)
	}
	var last packet.Endpoint4
	for range 3 {
		var r any
		if last, r = p.Allocate(Request{Proto: packet.UDP}); last.Port == 0 {
			t.Fatal(r)
		}
	}
	if _, err := p.Remove(entries); err != nil {
		t.Fatal(err)
	}
	if used, _ := p.UseOf(entries[0]); used != 3 {
		t.Errorf("%d ports are used, want 3", used)
	}
	p.Release(packet.UDP, last)
	part := entries[0]
	part.Lo, part.Hi = last.Port, last.Port
	if used, _ := p.UseOf(part); used != 0 {
		t.Errorf("%d ports are used, want 0", used)
	}
}
