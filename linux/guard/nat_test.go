//go:build linux

package guard_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nat64d/lab"
	"nat64d/linux/guard"
)

// Masqueraded returns the NAT rules of the host that may select a source port of pool4.
func TestMasqueraded(t *testing.T) {
	t.Parallel()
	l := network(t)
	g := guard.New(options(l))
	e := entries(t, lab.Gateway4, "7000-8000")
	for _, c := range []struct {
		name, rules string
		want        string // must be in the warning; empty: no warning
	}{
		{"masquerade", `table ip nat { chain post { type nat hook postrouting priority 100; masquerade; } }`, "chain ip nat post may"},
		{"inet", `table inet fw { chain src { type nat hook postrouting priority 100; oifname "v4" masquerade; } }`, "chain inet fw src may"},
		{"by index", `table ip nat { chain post { type nat hook postrouting priority 100; oif v4 masquerade; } }`, "ip nat post"},
		{"wildcard", `table ip nat { chain post { type nat hook postrouting priority 100; oifname "v*" masquerade; } }`, "tcp " + lab.Gateway4 + " 7000-8000"},
		{"jump", `table ip nat { chain m { masquerade; }
			chain post { type nat hook postrouting priority 100; oifname "v4" jump m; } }`, "chain ip nat m may"},
		{"snat", `table ip nat { chain post { type nat hook postrouting priority 100; ip saddr 10.0.0.0/8 snat to ` + lab.Gateway4 + `; } }`, "udp " + lab.Gateway4},
		{"snat to ports", `table ip nat { chain post { type nat hook postrouting priority 100; meta l4proto tcp snat to ` + lab.Gateway4 + `:7900-9000; } }`, "7000-8000"},
		{"other interface", `table ip nat { chain post { type nat hook postrouting priority 100; oifname "v6" masquerade; } }`, ""},
		{"not this interface", `table ip nat { chain post { type nat hook postrouting priority 100; oifname != "v4" masquerade; } }`, ""},
		{"jump from other interface", `table ip nat { chain m { masquerade; }
			chain post { type nat hook postrouting priority 100; oifname "v6" jump m; } }`, ""},
		{"other ports", `table ip nat { chain post { type nat hook postrouting priority 100; meta l4proto tcp masquerade to :8001-65535; } }`, ""},
		{"other address", `table ip nat { chain post { type nat hook postrouting priority 100; snat to ` + lab.Spare4 + `; } }`, ""},
		{"IPv6", `table inet fw { chain post { type nat hook postrouting priority 100; meta nfproto ipv6 masquerade; } }
			table ip6 nat { chain post { type nat hook postrouting priority 100; masquerade; } }`, ""},
		{"no NAT", `table ip filter { chain out { type filter hook postrouting priority 0; accept; } }`, ""},
	} {
		file := filepath.Join(t.TempDir(), "rules")
		if err := os.WriteFile(file, []byte("flush ruleset\n"+strings.NewReplacer("{", "{\n", "}", "\n}", ";", "\n").Replace(c.rules)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, l, "nft", "-f", file)
		var got []string
		do(t, l, func() (err error) { got, err = g.Masqueraded(e); return err })
		if c.want == "" && len(got) != 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
			t.Errorf("%s: %q, want one with %q", c.name, got, c.want)
		}
	}
}
