package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nat64d/config"
)

// kept is a configuration file in its own folder, with the current configuration.
type kept struct {
	t    *testing.T
	path string
	c    *config.Config
}

func newKept(t *testing.T, text string) *kept {
	t.Helper()
	k := &kept{t: t, path: filepath.Join(t.TempDir(), "nat64d.yaml")}
	k.write("nat64d.yaml", text)
	k.load()
	return k
}

func (k *kept) file(name string) string { return filepath.Join(filepath.Dir(k.path), name) }

func (k *kept) write(name, text string) {
	k.t.Helper()
	if err := os.MkdirAll(filepath.Dir(k.file(name)), 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := os.WriteFile(k.file(name), []byte(text), 0o644); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) load() {
	k.t.Helper()
	c, err := config.Load(k.path, named)
	if err != nil {
		k.t.Fatal(err)
	}
	k.c = c
}

// set changes a key and persists it.
func (k *kept) set(name, value string) error {
	k.t.Helper()
	c, err := k.c.With(name, value)
	if err != nil {
		k.t.Fatal(err)
	}
	path, err := c.Persist(k.path, named, name)
	if err != nil {
		return err
	}
	if path != k.file("conf.d/90-nat64ctl.yaml") {
		k.t.Errorf("kept in %s", path)
	}
	k.c = c
	return nil
}

func TestPersist(t *testing.T) {
	t.Parallel()
	k := newKept(t, "sessions: { max_per_client: 5, timeouts: { icmp: 2m } }\ndeny_v4: [10.0.0.0/8]\n")
	for _, kv := range [][2]string{
		{"udp-timeout", "00:07:00"},
		{"sessions.max_per_client", "9"},
		{"translation.tcp_mss_clamp", "auto"},
		{"filtering.allow_inbound_tcp", "no"},
		{"deny_v4", "192.168.0.0/16,0.0.0.0/0:tcp:6660-6669"},
		{"allow_v6", "2001:db8::/32"},
		{"udp-timeout", "480"},
		{"allow_v6", ""},
		{"translation.mtu_plateaus", "1500,68"},
	} {
		if err := k.set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(k.file("conf.d/90-nat64ctl.yaml"))
	const want = `# Written by nat64ctl config set --persist. Edit it as you like: other keys and comments stay.

sessions:
  timeouts:
    udp: 8m
  max_per_client: 9
translation:
  tcp_mss_clamp: auto
  mtu_plateaus: [1500, 68]
filtering:
  allow_inbound_tcp: false
deny_v4: [192.168.0.0/16, '0.0.0.0/0:tcp:6660-6669']
allow_v6: []
`
	if err != nil || string(got) != want {
		t.Errorf("%v, the file is\n%swant\n%s", err, got, want)
	}
	changed := k.c
	k.load()
	if d := config.Diff(changed, k.c); d != nil {
		t.Errorf("the next start would differ: %v", d)
	}
	entries, err := os.ReadDir(k.file("conf.d"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if i, err := entries[0].Info(); err != nil || i.Mode() != 0o644 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
}

func TestPersistLeavesTheRestOfTheFile(t *testing.T) {
	t.Parallel()
	k := newKept(t, "")
	k.write("conf.d/90-nat64ctl.yaml", "# mine\nsessions:\n  # because of the phones\n  max_per_client: 5 # for now\n  timeouts:\nlogging: { level: warn }\n")
	k.load()
	for _, kv := range [][2]string{{"sessions.max_per_client", "6"}, {"sessions.timeouts.udp", "6m"}, {"logging.level", "error"}} {
		if err := k.set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(k.file("conf.d/90-nat64ctl.yaml"))
	const want = "# mine\nsessions:\n  # because of the phones\n  max_per_client: 6 # for now\n  timeouts:\n    udp: 6m\nlogging: {level: error}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v, the file is\n%swant\n%s", err, got, want)
	}
}

// TestPersistRefused checks that Persist writes nothing if the value would have no effect or break the configuration.
func TestPersistRefused(t *testing.T) {
	t.Parallel()
	if _, err := config.Default().Persist("", named, "udp-timeout"); err == nil || err.Error() != "nat64d was started without a configuration file, so no value can be kept; start it with -c FILE" {
		t.Error(err)
	}
	if _, err := config.Default().Persist("/nowhere/nat64d.yaml", named, "nope"); err == nil {
		t.Error("an unknown key was kept")
	}
	for _, tt := range []struct{ name, text, want string }{
		{"conf.d/95.yaml", "sessions: { timeouts: { udp: 9m } }", "nothing was kept: sessions.timeouts.udp is set to 9m by FOLDER/conf.d/95.yaml, which counts more than 90-nat64ctl.yaml; change it there"},
		{"nat64d.yaml", "sessions: { max: x }", `nothing was kept: FOLDER/nat64d.yaml:1: sessions.max: "x" is not a decimal number`},
		{"conf.d/90-nat64ctl.yaml", "a: [", "FOLDER/conf.d/90-nat64ctl.yaml: yaml: line 1: did not find expected node content"},
		{"conf.d/90-nat64ctl.yaml", "- a", `nothing was kept: FOLDER/conf.d/90-nat64ctl.yaml:1: is a list, but must be sections such as interfaces: and pool4:`},
	} {
		k := newKept(t, "")
		k.write(tt.name, tt.text)
		before, _ := os.ReadFile(k.file("conf.d/90-nat64ctl.yaml"))
		err := k.set("sessions.timeouts.udp", "8m")
		if want := strings.ReplaceAll(tt.want, "FOLDER", filepath.Dir(k.path)); err == nil || err.Error() != want {
			t.Errorf("%s: %s\ngot  %v\nwant %s", tt.name, tt.text, err, want)
		}
		if after, _ := os.ReadFile(k.file("conf.d/90-nat64ctl.yaml")); string(after) != string(before) {
			t.Errorf("%s: %s\nthe file became %s", tt.name, tt.text, after)
		}
	}
}

func TestPersistWithoutPermission(t *testing.T) {
	t.Parallel()
	k := newKept(t, "")
	k.write("conf.d", "a file where the folder would be")
	err := k.set("sessions.timeouts.udp", "8m")
	if err == nil || strings.Contains(err.Error(), "/.90") {
		t.Errorf("error is %v", err)
	}
}
