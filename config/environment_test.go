package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/config"
)

// written writes files into a new folder and returns the path of the first.
func written(t *testing.T, files ...[2]string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range files {
		path := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f[1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, files[0][0])
}

// TestPrecedence adds sources of one key in ascending precedence. Origin returns the latest each time.
func TestPrecedence(t *testing.T) {
	main := written(t, [2]string{"nat64d.yaml", "# first line\nlogging: { level: error }\n"})
	conf := filepath.Join(filepath.Dir(main), "conf.d")
	check := func(path, level, origin string, args ...string) {
		t.Helper()
		c, err := config.Load(path, config.Given(append(args, "--v6=eth0", "--v4=eth1")...))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Origin("logging.level")
		if err != nil || c.Log.Level != level || got != origin {
			t.Errorf("logging.level is %s from %s (error %v), want %s from %s", c.Log.Level, got, err, level, origin)
		}
	}
	check("", "info", "default")
	check(main, "error", main+":2")
	for _, name := range []string{"10.yaml", "20.yaml"} {
		if err := os.MkdirAll(conf, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(conf, name), []byte("logging: { level: warn }"), 0o644); err != nil {
			t.Fatal(err)
		}
		check(main, "warn", filepath.Join(conf, name)+":1")
	}
	t.Setenv("NAT64D_LOGGING_LEVEL", "debug")
	check(main, "debug", "NAT64D_LOGGING_LEVEL")
	check(main, "info", "--log-level", "--log-level=info")
	t.Setenv("NAT64D_LOGGING_LEVEL", "")
	check(main, "warn", filepath.Join(conf, "20.yaml")+":1")
}

// TestFalseFlagBeatsFile checks that --force=false differs from a missing flag.
func TestFalseFlagBeatsFile(t *testing.T) {
	t.Parallel()
	const text = "host: { force: true, share_interfaces: true }"
	c, err := config.Parse("f", strings.NewReader(text), config.Given("--v6=eth0", "--v4=eth1", "--force=false"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Host.Force || !c.Host.ShareInterfaces {
		t.Errorf("host is %+v", c.Host)
	}
}

func TestEnvironmentValues(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		is          func(*config.Config) bool
	}{
		{"NAT64D_INTERFACES_V6_NAME", "ens4", func(c *config.Config) bool { return c.Interfaces.V6.Name == "ens4" }},
		{"NAT64D_INTERFACES_WORKERS", "3", func(c *config.Config) bool { return c.Interfaces.Workers == 3 }},
		{"NAT64D_INTERFACES_WORKERS", "auto", func(c *config.Config) bool { return c.Interfaces.Workers == 0 }},
		{"NAT64D_HOST_GUARD", "no", func(c *config.Config) bool { return !c.Host.Guard }},
		{"NAT64D_SESSIONS_MAX_PER_CLIENT", "7", func(c *config.Config) bool { return c.Sessions.MaxPerClient == 7 }},
		{"NAT64D_SESSIONS_TIMEOUTS_TCP_ESTABLISHED", "2h4m", func(c *config.Config) bool { return c.Sessions.Timeouts.TCPEstablished == 124*time.Minute }},
		{"NAT64D_SESSIONS_TIMEOUTS_UDP", "00:10:00", func(c *config.Config) bool { return c.Sessions.Timeouts.UDP == 10*time.Minute }},
		{"NAT64D_INTERFACES_PIN", "0,2, 4", func(c *config.Config) bool { return slices.Equal(c.Interfaces.Pin, []int{0, 2, 4}) }},
		{"NAT64D_TRANSLATION_MTU_PLATEAUS", "[1500, 9000]", func(c *config.Config) bool { return slices.Equal(c.Translation.MTUPlateaus, []int{9000, 1500}) }},
		{"NAT64D_ALLOW_V6", "2001:db8::/32 2001:db8:f::1", func(c *config.Config) bool { return len(c.AllowV6) == 2 && c.AllowV6[1].Bits() == 128 }},
		{"NAT64D_ALLOW_V6", "[]", func(c *config.Config) bool { return len(c.AllowV6) == 0 }},
		{"NAT64D_DENY_V4", "0.0.0.0/0:tcp:25", func(c *config.Config) bool { return len(c.DenyV4) == 1 && c.DenyV4[0].Lo == 25 }},
		{"NAT64D_DNS64_TRANSLATE_ALL", "true", func(c *config.Config) bool { return slices.Equal(c.DNS64.TranslateAll, []string{"."}) }},
		{"NAT64D_POOL6", "64:ff9b::/96,2001:db8:64::/48", func(c *config.Config) bool { return len(c.Pool6) == 2 && c.Pool6[1].String() == "2001:db8:64::/48" }},
		{"NAT64D_POOL4", "10.0.2.15:7000-8000,10.0.2.16", func(c *config.Config) bool {
			return len(c.Pool4) == 6 && c.Pool4[0].Lo == 7000 && c.Pool4[3].Addr.String() == "10.0.2.16"
		}},
		{"NAT64D_API_GROUP", "root", func(c *config.Config) bool { return c.Group == "root" }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			// The variable replaces the rows and the list of the file.
			main := written(t, [2]string{"nat64d.yaml", "interfaces: { v6: { name: eth0 }, v4: { name: eth1 } }\nallow_v6: [2001:db8:1::/48]\npool4: [ { address: 192.0.2.1 } ]\n"})
			c, err := config.Load(main, config.Overrides{})
			if err != nil || !tt.is(c) {
				t.Errorf("%s=%s: error %v, configuration %+v", tt.name, tt.value, err, c)
			}
		})
	}
}

// TestEnvironmentRefused checks that a problem has the name of the variable as its place.
func TestEnvironmentRefused(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"NAT64D_SESSIONS_TIMEOUTS_UDP", "300", `NAT64D_SESSIONS_TIMEOUTS_UDP: sessions.timeouts.udp: "300" has no unit; write 300s if seconds are meant`},
		{"NAT64D_SESSIONS_TIMEOUTS_UDP", "1s", "NAT64D_SESSIONS_TIMEOUTS_UDP: sessions.timeouts.udp: is 1s, which is below the 2m0s that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions"},
		{"NAT64D_SESSIONS_MAX", "07000", `NAT64D_SESSIONS_MAX: sessions.max: "07000" has a leading zero; write it without`},
		{"NAT64D_HOST_GUARD", "maybe", `NAT64D_HOST_GUARD: host.guard: "maybe" is neither true nor false`},
		{"NAT64D_DENY_V4", "192.0.2.1,2001:db8::1", `NAT64D_DENY_V4: deny_v4[1]: is "2001:db8::1", but must be an IPv4 prefix or address`},
		{"NAT64D_POOL4", "192.0.2.1:9-8", "NAT64D_POOL4: pool4[0]: ports 9-8: the range is reversed: write 8-9"},
		{"NAT64D_POOL6", "64:ff9b::/95", "NAT64D_POOL6: pool6[0].prefix: 64:ff9b::/95: the length must be 32, 40, 48, 56, 64 or 96 (RFC 6052)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			_, err := config.Load("", named)
			var ps config.Problems
			if !errors.As(err, &ps) || err.Error() != tt.want || ps[0].OnCommandLine() {
				t.Errorf("%s=%s\ngot  %v\nwant %s", tt.name, tt.value, err, tt.want)
			}
		})
	}
}

// TestForeignVariables sets variables with our prefix that belong to other programs, and empty ones.
func TestForeignVariables(t *testing.T) {
	for name, value := range map[string]string{
		"NAT64D_SOCKET": "/tmp/other", "NAT64D_VERSION": "1.2.3", "NAT64D_BIN": "/x", "NAT64D_CACHE": "/y", "NAT64D_FLOOD": "8s",
		"NAT64D_SERVICE_HOST": "10.0.0.1", "NAT64D_SERVICE_PORT": "53", "NAT64D_SERVICE_PORT_DNS": "53",
		"NAT64D_PORT": "udp://10.0.0.1:53", "NAT64D_PORT_53_UDP": "udp://10.0.0.1:53", "NAT64D_PORT_53_UDP_PROTO": "udp",
		"NAT64D_PORT_53_UDP_PORT": "53", "NAT64D_PORT_53_UDP_ADDR": "10.0.0.1", "NAT64D_DNS64_SERVICE_HOST": "10.0.0.1", "NAT64D_DNS64_PORT": "tcp://10.0.0.1:53",
		"NAT64D_NOTHING": "", "NAT64D_HOST_GUARD": "", "NAT64": "x", "NAT64CTL_X": "y",
	} {
		t.Setenv(name, value)
	}
	c, err := config.Load("", named)
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != config.Default().Socket || !c.Host.Guard {
		t.Errorf("the environment changed socket %s or guard %v", c.Socket, c.Host.Guard)
	}
}

// TestParseReadsNoEnvironment keeps tests and documentation independent of the machine.
func TestParseReadsNoEnvironment(t *testing.T) {
	t.Setenv("NAT64D_LOGGING_LEVEL", "debug")
	t.Setenv("NAT64D_NONSENSE", "1")
	if c := parse(t, ""); c.Log.Level != "info" {
		t.Errorf("logging.level is %s", c.Log.Level)
	}
}

// TestReloadKeepsEnvironmentAndFlags loads again after a change of the file.
func TestReloadKeepsEnvironmentAndFlags(t *testing.T) {
	t.Setenv("NAT64D_SESSIONS_MAX_PER_CLIENT", "5")
	o := config.Given("--v6=eth0", "--v4=eth1", "--log-level=warn")
	main := written(t, [2]string{"nat64d.yaml", "sessions: { max_per_client: 1, max_per_binding: 1 }\nlogging: { level: error }\n"})
	old, err := config.Load(main, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(main, []byte("sessions: { max_per_client: 2, max_per_binding: 2 }\nlogging: { level: debug }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	next, err := config.Load(main, o)
	if err != nil {
		t.Fatal(err)
	}
	if changes := config.Diff(old, next); len(changes) != 1 || changes[0].Name != "sessions.max_per_binding" {
		t.Errorf("changes are %v", changes)
	}
	if _, err := next.Persist(main, o, "sessions.max_per_client"); err != nil {
		t.Errorf("the value in force cannot be kept: %v", err)
	}
	next, err = next.With("sessions.max_per_client", "9")
	if err != nil {
		t.Fatal(err)
	}
	if origin, _ := next.Origin("sessions.max_per_client"); origin != "nat64ctl" {
		t.Errorf("the origin is %s", origin)
	}
	const want = "nothing was kept: sessions.max_per_client is set to 5 by NAT64D_SESSIONS_MAX_PER_CLIENT, which counts more than 90-nat64ctl.yaml; change it there"
	if _, err := next.Persist(main, o, "sessions.max_per_client"); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// TestEmptyKeyOverridesNothing: a key without a value and a section without entries keep the values of earlier files.
func TestEmptyKeyOverridesNothing(t *testing.T) {
	t.Parallel()
	main := written(t,
		[2]string{"nat64d.yaml", "allow_v6: [2001:db8::/32]\nlogging: { level: warn }\npool4: [ { address: 192.0.2.1 } ]\nsessions: { timeouts: { udp: 9m } }"},
		[2]string{"conf.d/10.yaml", "allow_v6:\nlogging: { level: }\npool4:\nsessions:\n"},
		[2]string{"conf.d/20.yaml", "pool4: []\nsessions: { timeouts: }\n"})
	c, err := config.Load(main, named)
	if err != nil {
		t.Fatal(err)
	}
	if origin, _ := c.Origin("logging.level"); origin != main+":2" {
		t.Errorf("logging.level comes from %s", origin)
	}
	if len(c.AllowV6) != 1 || c.Log.Level != "warn" || len(c.Pool4) != 3 || c.Sessions.Timeouts.UDP != 9*time.Minute {
		t.Errorf("configuration is %+v", *c)
	}
	main = written(t, [2]string{"nat64d.yaml", "allow_v6: [2001:db8::/32]"}, [2]string{"conf.d/10.yaml", "allow_v6: []"})
	if c, err = config.Load(main, named); err != nil || len(c.AllowV6) != 0 {
		t.Errorf("an empty list replaces one: error %v, %v", err, c)
	}
}

func FuzzEnvironment(f *testing.F) {
	for _, value := range []string{"10.0.2.15:7000-8000, 10.0.2.16", "[]", "64:ff9b::/96", "90s", "auto", "\"a\",b", "[[,]"} {
		f.Add("INTERFACES_WORKERS", value)
		f.Add("POOL4", value)
		f.Add("POOL6", value)
		f.Add("DENY_V4", value)
		f.Add("SESSIONS_TIMEOUTS_UDP", value)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		if name = "NAT64D_" + name; strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") {
			return
		}
		t.Setenv(name, value)
		c, err := config.Load("", named)
		var ps config.Problems
		switch {
		case err != nil && (c != nil || !errors.As(err, &ps)):
			t.Errorf("configuration %v with error %v", c, err)
		case err != nil && !slices.ContainsFunc(ps, func(p config.Problem) bool { return p.Place == name || p.Key != "" }):
			t.Errorf("%s=%q: no problem names it: %v", name, value, err)
		case err == nil && (len(c.Pool6) < 1 || c.Sessions.Max < 1 || c.Sessions.Timeouts.UDP <= 0):
			t.Errorf("accepted: %+v", *c)
		}
	})
}

// TestUnknownVariablesWarn checks that a variable that sets no key changes nothing but leaves a hint.
func TestUnknownVariablesWarn(t *testing.T) {
	for _, tt := range []struct{ name, value, want string }{
		{"NAT64D_SESSIONS_MAXX", "1", "NAT64D_SESSIONS_MAXX: unknown variable; did you mean NAT64D_SESSIONS_MAX?"},
		{"NAT64D_ENGINE", "ring", "NAT64D_ENGINE: unknown variable; did you mean NAT64D_INTERFACES_ENGINE?"},
		{"NAT64D_sessions_max", "1", "NAT64D_sessions_max: unknown variable: no key of the configuration has this name; NAT64D_INTERFACES_V6_NAME, for example, sets interfaces.v6.name"},
		{"NAT64D_SESSIONS", "{}", "NAT64D_SESSIONS: is a section of the configuration; set one of its keys, for example NAT64D_SESSIONS_MAX"},
		{"NAT64D_BIB", "x", "NAT64D_BIB: bib can only be set in a file"},
		{"NAT64D_RA_PREF64", "true", "NAT64D_RA_PREF64: ra.pref64 is not available in this version"},
		{"NAT64D_DNS64_PORT", "53", "NAT64D_DNS64_PORT: unknown variable: no key of the configuration has this name; NAT64D_INTERFACES_V6_NAME, for example, sets interfaces.v6.name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			c, err := config.Load("", named)
			if err != nil || !slices.Equal(c.Warnings, []string{tt.want}) {
				t.Errorf("%s=%s\ngot  %v, error %v\nwant %s", tt.name, tt.value, c.Warnings, err, tt.want)
			}
		})
	}
}
