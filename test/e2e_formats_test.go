package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"nat64d/lab"
)

// goldenFile has the output of each command in each format.
const goldenFile = "testdata/nat64ctl.golden"

// The commands of TestFormats. The output of steady ones is compared as a whole, apart from times; of the others the names of the
// values.
var (
	steadyCommands = []string{
		"pool4 list", "pool4 usage", "pool6 list", "bib list --tcp", "bib list --count", "session list --tcp --port 20000", "session list --count --tcp --port 20000",
		"session list --state established --sort -idle --limit 1 --tcp", "addr " + lab.Server4, "config get sessions.timeouts.udp", "session remove --udp --client 2001:db8:9::/48",
	}
	variableCommands = []string{"status", "health", "stats --all", "stats --diff 100ms --all", "top -n 1 -d 100ms", "version", "config get"}
)

// Every command that reads or diagnoses answers in each format with the golden output. UPDATE_GOLDEN=1 writes it. Mistakes get an answer that
// says what would be right, sessions can be followed and removed, and terminals are used as they should be, all at one gateway.
func TestFormats(t *testing.T) {
	l := network(t, lab.Options{})
	g := start(t, l, lab.Spare4+":7000") // one port, so that the output is always the same
	serveEcho(t, l)
	events := follow(t, g, "protocol=tcp&client="+lab.Client6+"&limit=3")
	c, err := open(l, "tcp", 0, 20000)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Run("formats", func(t *testing.T) { checkFormats(t, l, g) })
	t.Run("mistakes", func(t *testing.T) { checkMistakes(t, g) })
	t.Run("follow and remove", func(t *testing.T) { checkFollow(t, g, events) })
	t.Run("colours", func(t *testing.T) { checkColours(t, g) })
	t.Run("top", func(t *testing.T) { checkTop(t, g) })
}

// follow returns the events that match a filter, from now on.
func follow(t *testing.T, g *daemon, filter string) io.Reader {
	t.Helper()
	c := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", g.socket)
		},
	}}
	r, err := c.Get("http://nat64d/v1/sessions/follow?" + filter)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	return r.Body
}

func checkFormats(t *testing.T, l *lab.Lab, g *daemon) {
	var got strings.Builder
	for _, format := range []string{"table", "wide", "json", "yaml", "csv"} {
		for _, command := range steadyCommands {
			if format == "wide" && !strings.HasPrefix(command, "session list") {
				continue // it is like table
			}
			fmt.Fprintf(&got, "$ nat64ctl %s -o %s\n%s\n", command, format, withoutTimes(g.must(append(strings.Fields(command), "-o", format)...)))
		}
		for _, command := range variableCommands {
			if format == "wide" {
				break
			}
			out := g.must(append(strings.Fields(command), "-o", format)...)
			fmt.Fprintf(&got, "$ nat64ctl %s -o %s\n%s\n\n", command, format, namesIn(t, format, out))
		}
	}
	keepSending(t, l, g)
	for _, format := range []string{"table", "json", "yaml", "csv"} {
		got.WriteString(goldenDiagnostics(t, g, format))
	}
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(goldenFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.Split(read(t, goldenFile), "$ nat64ctl ")
	for i, part := range strings.Split(got.String(), "$ nat64ctl ") {
		if i >= len(want) || part != want[i] {
			t.Errorf("nat64ctl %swant nat64ctl %s", part, want[min(i, len(want)-1)])
		}
	}
}

var (
	secondsText = regexp.MustCompile(`\b(\d+[dhm]){0,2}\d+(h|m|s)\b *`)
	secondsJSON = regexp.MustCompile(`(_seconds"?: ?)[0-9.]+`)
	secondsCSV  = regexp.MustCompile(`\b\d+\.\d{3}\b`)
	amounts     = regexp.MustCompile(`((?:packets|bytes)_\w+"?[:,] ?)[0-9.]+`)
)

// withoutTimes replaces what differs from run to run.
func withoutTimes(out string) string {
	out = secondsJSON.ReplaceAllString(out, "${1}N")
	out = amounts.ReplaceAllString(out, "${1}N")
	if strings.Contains(out, "timeouts.udp") {
		return out
	}
	return secondsText.ReplaceAllString(secondsCSV.ReplaceAllString(out, "N"), "TIME ")
}

// namesIn returns the names of the values in an output: keys of JSON and YAML, otherwise the titles of columns.
func namesIn(t *testing.T, format, out string) string {
	t.Helper()
	var v any
	switch format {
	case "json":
		if err := json.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	case "yaml":
		if err := yaml.Unmarshal([]byte(out), &v); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	default:
		first, _, _ := strings.Cut(out, "\n")
		if strings.HasPrefix(first, "nat64d ") { // top
			return "nat64d"
		}
		return strings.Join(strings.Fields(first), " ")
	}
	names := map[string]bool{}
	collect(names, "", v)
	for _, optional := range []string{"warnings", "memory", "state.", "offloads", "not_ready", "drops", "labels", "old", "revision", "checks[].why", "clients", "panics"} {
		maps.DeleteFunc(names, func(n string, _ bool) bool { return strings.Contains(n, optional) })
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), "\n")
}

func collect(names map[string]bool, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			collect(names, strings.TrimPrefix(path+"."+k, "."), inner)
		}
	case []any:
		for _, inner := range v {
			collect(names, path+"[]", inner)
		}
	default:
		names[path] = true
	}
}

// checkMistakes makes typical mistakes at the keyboard: the answer on standard error has what was wrong and what would be right.
func checkMistakes(t *testing.T, g *daemon) {
	for _, c := range []struct {
		line string
		code int
		want []string
	}{
		{"sessions list", 2, []string{`"sessions"`, "did you mean session?"}},
		{"session lits", 2, []string{`"lits"`, "did you mean list?"}},
		{"statu", 2, []string{"did you mean", "status"}},
		{"session", 2, []string{"session needs a command", "follow, list, remove"}},
		{"status now", 2, []string{`"now" is one argument too many`}},
		{"session list --clinet 2001:db8::1", 2, []string{"--clinet", "session list --help"}},
		{"session list -o xml", 2, []string{"xml", "table, wide, json, yaml, csv"}},
		{"session list --client 192.0.2.1", 1, []string{"192.0.2.1", "IPv6 address or prefix such as 2001:db8::/64"}},
		{"session list --peer 2001:db8::1", 1, []string{"2001:db8::1", "IPv4 address or prefix such as 192.0.2.0/24"}},
		{"session list --peer 192.0.2.0/33", 1, []string{"192.0.2.0/33", "192.0.2.0/24"}},
		{"session list --state open", 1, []string{`"open"`, "V4_INIT, V6_INIT, ESTABLISHED"}},
		{"session list --older 5", 1, []string{`"5"`, "90s, 5m or 2h"}},
		{"session list --port http", 1, []string{`"http"`, "a port such as 443"}},
		{"session list --port 8000-7000", 1, []string{"reversed", "7000-8000"}},
		{"session list --port 70000", 1, []string{"70000", "a port such as 443"}},
		{"session list --mapped 192.0.2.0/24:80", 1, []string{"prefix has no ports", "--port"}},
		{"session list --sort age", 2, []string{"age", "client, expires, idle"}},
		{"session list --limit -1", 2, []string{"--limit -1", "must not be negative"}},
		{"session list --count --limit 5", 2, []string{"--count counts all"}},
		{"session list --watch=1ms", 2, []string{"too short", "100ms"}},
		{"session remove", 2, []string{"needs a flag that selects", "--all --yes"}},
		{"session remove --all", 2, []string{"ends every session", "--yes"}},
		{"session remove --all --yes --tcp", 2, []string{"--all ends every session", "leave it out"}},
		{"session follow --older 5m", 2, []string{"--older"}},
		{"bib list --state established", 2, []string{"--state"}},
		{"bib add tcp 192.0.2.1:80", 2, []string{"is missing"}},
		{"bib add sctp 192.0.2.1:80 [2001:db8::1]:80", 1, []string{"sctp", "tcp, udp"}},
		{"bib remove tcp 192.0.2.200:80", 1, []string{"no such binding", "bib list"}},
		{"pool4 add", 2, []string{"ADDRESS is missing"}},
		{"pool4 add 192.0.2.64 8000-7000", 1, []string{"reversed", "7000-8000"}},
		{"pool4 add 2001:db8::1 7000", 1, []string{"2001:db8::1", "IPv4"}},
		{"pool4 add 192.0.2.300 7000", 1, []string{"192.0.2.300"}},
		{"pool4 remove 203.0.113.9", 1, []string{"203.0.113.9"}},
		{"pool4 flush", 2, []string{"--yes"}},
		{"pool4 usage --clients 2000", 1, []string{"2000", "0 to 1000"}},
		{"pool6 add 64:ff9b::/97", 1, []string{"97", "96"}},
		{"pool6 remove " + lab.Prefix6, 1, []string{"only prefix"}},
		{"addr example.net", 1, []string{"example.net", "192.0.2.1"}},
		{"config get sessions.timeout.udp", 1, []string{"sessions.timeout.udp", "sessions.timeouts.udp"}},
		{"config set sessions.timeouts.udp 5", 1, []string{"5"}},
		{"config set sessions.max 1000", 1, []string{"restart"}},
		{"config set sessions.accounting maybe", 1, []string{"maybe"}},
		{"stats --diff 5", 2, []string{"5", "--diff"}},
		{"top", 2, []string{"needs a terminal", "-n 1"}},
		{"top -n 1 --sort name", 2, []string{"ports, sessions, packets, bytes, rate"}},
		{"top -o json", 2, []string{"-n 1"}},
		{"explain tcp", 2, []string{"SOURCE and DESTINATION are missing", "explain --help"}},
		{"explain 2001:db8::1 192.0.2.2 80", 2, []string{"PROTOCOL is missing", "tcp, udp or icmp"}},
		{"explain gre 2001:db8::1 192.0.2.2", 1, []string{`"gre"`, "tcp, udp or icmp"}},
		{"explain tcp 2001:db8::1 192.0.2.2", 1, []string{"destination port", "behind the destination"}},
		{"explain tcp 2001:db8::1 192.0.2.2:80", 1, []string{"write 192.0.2.2 80"}},
		{"explain tcp 2001:db8::1 http 192.0.2.2 80", 1, []string{`source port "http"`, "from 1 to 65535"}},
		{"explain tcp 2001:db8::1 example.net 80", 1, []string{"example.net", "names are not resolved"}},
		{"explain tcp 2001:db8::1 192.0.2.2 80 --size 10", 1, []string{"10", "60"}},
		{"explain tcp 192.0.2.2 2001:db8::1 80", 1, []string{"pool4", "session list"}},
		{"trace --port http", 2, []string{`"http"`, "0 to 65535"}},
		{"trace --reason pool_exausted", 1, []string{`"pool_exausted"`, "pool_exhausted"}},
		{"trace --client 192.0.2.1", 1, []string{"192.0.2.1", "IPv6 address or prefix"}},
		{"trace --peer 2001:db8::1", 1, []string{"2001:db8::1", "IPv4 address or prefix"}},
		{"trace 192.0.2.1", 2, []string{"one argument too many"}},
		{"trace --tpc", 2, []string{"--tpc", "trace --help"}},
		{"doctor now", 2, []string{`"now"`, "one argument too many"}},
		{"doctor --probe example.net", 1, []string{"example.net", "IPv4 address"}},
		{"doctor --probe 2001:db8::1", 1, []string{"2001:db8::1", "IPv4"}},
		{"doctor --dns example.net", 1, []string{"example.net", "address"}},
		{"support-bundle", 2, []string{"FILE is missing"}},
		{"support-bundle /etc/hostname", 1, []string{"exists", "--force"}},
		{"support-bundle /nonexistent/file", 1, []string{"/nonexistent"}},
		{"support-bundle / --force", 1, []string{"/", "directory"}},
		{"capture", 2, []string{"-w FILE"}},
		{"capture -w /nonexistent/file", 1, []string{"/nonexistent/file", "no such file"}},
		{"status --timeout 0s", 2, []string{"more than 0"}},
	} {
		out, errs, code := g.ctl(strings.Fields(c.line)...)
		if code != c.code || out != "" {
			t.Errorf("nat64ctl %s: exit code %d, want %d; standard output %q", c.line, code, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("nat64ctl %s: %q lacks %q", c.line, errs, want)
			}
		}
	}
}

// checkFollow ends the connection by session remove: follow shows its whole life, and the log has the change.
func checkFollow(t *testing.T, g *daemon, events io.Reader) {
	if out := g.must("session", "remove", "--tcp", "--mapped", lab.Spare4+":7000", "--port", "20000"); out != "ended 1 session\n" {
		t.Errorf("session remove: %q", out)
	}
	if out := g.must("session", "list", "--tcp", "--count"); out != "0\n" {
		t.Errorf("afterwards there are %s", out)
	}
	var all []string
	for lines := bufio.NewScanner(events); lines.Scan(); { // the daemon ends the answer after three events
		var l struct {
			Item struct{ Event, State, Before, Cause, Client string }
		}
		decode(t, lines.Text(), &l)
		e := l.Item
		all = append(all, strings.Join(strings.Fields(fmt.Sprintln(e.Event, e.Before, e.State, e.Cause, e.Client)), " "))
	}
	want := []string{"made V6_INIT " + lab.Client6, "changed V6_INIT ESTABLISHED " + lab.Client6, "ended ESTABLISHED purged " + lab.Client6, ""}
	if !slices.Equal(all, want) {
		t.Errorf("followed %q, want %q", all, want)
	}
	if log := g.log.String(); !strings.Contains(log, "/v1/sessions/remove") || !strings.Contains(log, "port=20000") {
		t.Errorf("the log lacks the change: %s", log)
	}
}
