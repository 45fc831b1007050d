package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
	"nat64d/ops/metrics"
)

// TestMetrics scrapes a running daemon, and changes where it listens.
func TestMetrics(t *testing.T) {
	l := network(t, lab.Options{})
	g := startConfig(t, l, fmt.Sprintf("pool4: [ { address: %s } ]\nmetrics: { listen: \":9464\" }\n"+
		"dns64: { enabled: true, listen: [\"[%s]:53\"], upstreams: [192.0.2.2] }\n", lab.Spare4, lab.Gateway6))
	checkPing(t, l)
	t.Run("catalogue", g.checkStats)
	body := g.fetch("127.0.0.1:9464/metrics", 200)
	t.Run("scrape", func(t *testing.T) { checkScrape(t, g, body) })
	t.Run("expressions", func(t *testing.T) { checkExpressions(t, body) })
	t.Run("probes", g.checkProbes)
	t.Run("summary", g.checkSummary)
	t.Run("listen", g.checkListen)
	g.stop()
}

// A metrics socket belongs to root and the group, and goes with the daemon. A reload that fails shows in the metrics.
func TestMetricsSocket(t *testing.T) {
	l := network(t, lab.Options{})
	path := filepath.Join(filepath.Dir(socketPath(t)), "metrics.sock")
	config := fmt.Sprintf("pool4: [ { address: %s } ]\nmetrics: { listen: \"unix:%s\" }\n", lab.Spare4, path)
	g := startConfig(t, l, config)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v; want mode 0660", info, err)
	}
	get := func() string { return g.fetch("nat64d/metrics", 200, "--unix-socket", path) }
	if body := get(); !strings.Contains(body, "\nnat64_config_last_reload_successful 1\n") {
		t.Errorf("the first reading of the configuration has not succeeded: %.2000s", body)
	}
	g.rewrite(config + "no_such_key: 1\n")
	if _, errs, code := g.ctl("reload"); code == 0 {
		t.Errorf("a reload with a mistake succeeds: %s", errs)
	}
	if body := get(); !strings.Contains(body, "\nnat64_config_last_reload_successful 0\n") {
		t.Error("a failed reload is not shown")
	}
	g.must("config", "set", "metrics.listen", "127.0.0.1:9464")
	g.eventuallyFetch("127.0.0.1:9464/healthz")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	g.stop()
}

// fetch returns the answer to a request from the gateway's own namespace, and checks its status. Without one, there must be no answer.
func (g *daemon) fetch(url string, status int, flags ...string) string {
	g.t.Helper()
	out, code := g.request(url, flags...)
	if code != fmt.Sprintf("%03d", status) {
		g.t.Errorf("%s: status %s, want %d: %s", url, code, status, out)
	}
	return out
}

// request returns the body of an answer and its status, 000 if there is none.
func (g *daemon) request(url string, flags ...string) (body, status string) {
	g.t.Helper()
	path, _ := tool(g.t, "curl")
	args := append([]string{"-s", "-g", "-m", "5", "-w", "\n%{http_code}", "http://" + url}, flags...)
	out, _ := g.lab.Gateway.Output(limit(g.t, 10*time.Second), path, args...) // without an answer, curl fails
	at := strings.LastIndexByte(out, '\n')
	return out[:max(at, 0)], strings.TrimSpace(out[at+1:])
}

// eventuallyFetch waits for an answer with status 200.
func (g *daemon) eventuallyFetch(url string) {
	g.t.Helper()
	eventually(g.t, 5*time.Second, url+" answers", func() error {
		if _, status := g.request(url); status != "200" {
			return fmt.Errorf("status %s", status)
		}
		return nil
	})
}

// checkStats checks that nat64ctl stats shows exactly the rows of the catalogue that are whole numbers.
func (g *daemon) checkStats(t *testing.T) {
	rows := map[string]*metrics.Row{}
	for id := range metrics.IDs {
		row := id.Row()
		switch {
		case row.Type == metrics.Histogram:
			rows[row.Name+"_bucket"], rows[row.Name+"_count"] = row, row
		case !row.Fraction():
			rows[row.Name] = row
		}
	}
	var all []control.Counter
	decode(t, g.must("stats", "--all", "-o", "json"), &all)
	shown := map[string]bool{}
	for _, c := range all {
		row := rows[c.Name]
		if row == nil {
			t.Errorf("the catalogue has no %s", c.Name)
			continue
		}
		shown[c.Name] = true
		labels := slices.Clone(row.Labels)
		if strings.HasSuffix(c.Name, "_bucket") {
			labels = append(labels, "le")
		}
		if c.Kind != row.Kind || c.Type != row.Type.String() || !slices.Equal(slices.Sorted(maps.Keys(c.Labels)), slices.Sorted(slices.Values(labels))) {
			t.Errorf("%+v is not as in the catalogue: %+v", c, row)
		}
		if c.Help != row.Help && c.Labels["reason"] == "" {
			t.Errorf("%s: the help is %q, the catalogue has %q", c.Name, c.Help, row.Help)
		}
	}
	for name := range rows {
		if !shown[name] {
			t.Errorf("nothing shows %s", name)
		}
	}
	csv := g.must("stats", "--all", "-o", "csv")
	for _, old := range []string{"\ndrops,\"{reason=\"\"hop_limit\"\"}\",0,", "\nneighbour_waits,,", "\nicmp_errors_sent_v6,,0,", "\nsessions,\"{protocol=\"\"icmp\"\"}\",1,"} {
		if strings.Count(csv, old) != 1 {
			t.Errorf("the counters in CSV lack %q of earlier versions: %s", old, csv)
		}
	}
	if table := g.must("stats", "--all"); strings.Contains(table, "\nneighbour_waits") {
		t.Error("a table shows the name of an earlier version")
	}
}

// checkScrape checks that Prometheus gets all that nat64ctl stats shows, and all rows of the catalogue.
func checkScrape(t *testing.T, g *daemon, body string) {
	got := series(body)
	var all []control.Counter
	decode(t, g.must("stats", "--all", "-o", "json"), &all)
	for _, c := range all {
		if !got[c.Name] {
			t.Errorf("the metrics lack %s", c.Name)
		}
	}
	for id := range metrics.IDs {
		row := id.Row()
		name := row.Name
		if row.Type == metrics.Histogram {
			name += "_sum"
		}
		if !got[name] {
			t.Errorf("the metrics lack %s", name)
		}
	}
	for _, want := range []string{
		`nat64_packets_total{direction="6to4",protocol="icmp"} `, `nat64_sessions{protocol="icmp",state="ACTIVE"} 1`, "nat64_ready 1\n",
		`nat64_sessions_created_total{protocol="icmp"} 1`, `nat64_bib_entries{origin="dynamic",protocol="icmp"} 1`, "nat64_clients 1\n",
		`nat64_pool4_ports_used{pool="` + lab.Spare4 + `:`, `nat64_worker_busy_ratio{worker="v6/0"} 0`, `nat64_check_ok{check="guard"} 1`,
		`nat64_interface_up{interface="` + g.lab.NIC6 + `",side="v6"} 1`, "go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the metrics lack %q", want)
		}
	}
	if strings.Contains(body, lab.Client6) {
		t.Errorf("the metrics contain the address of a client: %s", body)
	}
	path, env := tool(t, "promtool")
	lint := exec.CommandContext(limit(t, 20*time.Second), path, "check", "metrics")
	lint.Env, lint.Stdin = env, strings.NewReader(body)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v: %s", err, out)
	}
}

// series returns the names of the time series in the answer to a scrape.
func series(body string) map[string]bool {
	names := map[string]bool{}
	for s := bufio.NewScanner(strings.NewReader(body)); s.Scan(); {
		if end := strings.IndexAny(s.Text(), "{ "); end > 0 && s.Text()[0] != '#' {
			names[s.Text()[:end]] = true
		}
	}
	return names
}

// checkProbes checks the probes of a gateway that is paused in between.
func (g *daemon) checkProbes(t *testing.T) {
	for _, path := range []string{"healthz", "readyz"} {
		if body := g.fetch("[::1]:9464/"+path, 200); body != "ok\n" {
			t.Errorf("/%s answers %q", path, body)
		}
	}
	if out, _, code := g.ctl("health"); code != 0 || !strings.HasPrefix(out, "ready\n") {
		t.Errorf("exit code %d: %s", code, out)
	}
	g.must("pause")
	if body := g.fetch("127.0.0.1:9464/readyz", 503); !strings.Contains(body, "translation is paused") {
		t.Errorf("/readyz answers %q", body)
	}
	g.fetch("127.0.0.1:9464/healthz", 200)
	g.must("resume")
	g.fetch("127.0.0.1:9464/readyz", 200)
	g.fetch("127.0.0.1:9464/", 200)
	g.fetch("127.0.0.1:9464/debug/pprof/", 404)
	g.fetch("127.0.0.1:9464/metrics", 405, "-d", "x")
}

// checkSummary checks that SIGUSR1 writes a summary of the tables to the log.
func (g *daemon) checkSummary(t *testing.T) {
	g.signal(syscall.SIGUSR1)
	want := []*regexp.Regexp{
		regexp.MustCompile(`msg="summary: tables" protocol=icmp bindings=1 sessions=1 pool4_used=1 pool4_ports=\d+\n`),
		regexp.MustCompile(`msg="summary: traffic" direction=6to4 packets=[1-9]\d* bytes=[1-9]\d*\n`),
		regexp.MustCompile(`msg="summary: drops" all=\d+`),
		regexp.MustCompile(`msg="summary: worker" worker=v4/0 busy=\d+% processor_time=\S+\n`),
	}
	eventually(t, 5*time.Second, "the log has a summary", func() error {
		for _, w := range want {
			if !w.MatchString(g.log.String()) {
				return fmt.Errorf("nothing matches %v", w)
			}
		}
		return nil
	})
}

// checkListen changes where the metrics are, to a port that another server has, and to nowhere.
func (g *daemon) checkListen(t *testing.T) {
	if _, errs, code := g.ctl("config", "set", "metrics.listen", "9465"); code != 1 || !strings.Contains(errs, "did you mean :9465?") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	g.must("config", "set", "metrics.listen", lab.Gateway4+":9465")
	g.eventuallyFetch(lab.Gateway4 + ":9465/healthz")
	g.fetch("127.0.0.1:9464/healthz", 0)
	g.must("config", "set", "metrics.listen", "["+lab.Gateway6+"]:53")
	eventually(t, 5*time.Second, "the status warns", func() error {
		if w := strings.Join(g.status().Warnings, "\n"); !strings.Contains(w, "metrics.listen: nat64d does not listen on ["+lab.Gateway6+"]:53") ||
			!strings.Contains(w, "another program has the port") {
			return fmt.Errorf("the warnings are %q", w)
		}
		return nil
	})
	g.must("config", "set", "metrics.listen", "")
	eventually(t, 5*time.Second, "the warning is gone", func() error {
		if w := strings.Join(g.status().Warnings, "\n"); strings.Contains(w, "metrics.listen") {
			return fmt.Errorf("the warnings are %q", w)
		}
		return nil
	})
	g.fetch(lab.Gateway4+":9465/healthz", 0)
}

// checkExpressions checks with promtool the rules, the alerts with their tests, and the expressions of the dashboard. The metrics that
// they use exist.
func checkExpressions(t *testing.T, body string) {
	path, env := tool(t, "promtool")
	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(limit(t, 30*time.Second), path, args...)
		cmd.Env, cmd.Dir = env, "../deploy/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	run("check", "config", "prometheus.yml")
	run("test", "rules", "tests.yml")
	var file bytes.Buffer
	file.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, e := range dashboardExpressions(t) {
		fmt.Fprintf(&file, "      - record: e%d\n        expr: %q\n", i, e)
	}
	rules := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(rules, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	run("check", "rules", rules)
	known := series(body)
	text := file.String() + read(t, "../deploy/prometheus/rules.yml") + read(t, "../deploy/prometheus/alerts.yml")
	for _, m := range regexp.MustCompile(`record: (nat64:\S+)`).FindAllStringSubmatch(text, -1) {
		known[m[1]] = true
	}
	for _, name := range regexp.MustCompile(`\bnat64[_:][a-z0-9_:]+`).FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("an expression uses %s, which a scrape of nat64d does not have", name)
		}
	}
}
