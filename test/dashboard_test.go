package test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// dashboardPath is the dashboard for Grafana.
const dashboardPath = "../deploy/grafana/nat64d.json"

// dashboard is the part of a Grafana dashboard that the tests read.
type dashboard struct {
	Panels []struct {
		Type, Title string
		Targets     []struct{ Expr string }
		GridPos     struct{ X, Y, W, H int }
	}
	Templating struct {
		List []struct {
			Name       string
			Definition string // the query of a variable with one
		}
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, dashboardPath)), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// dashboardExpressions returns the expressions of the dashboard, with a value for each variable.
func dashboardExpressions(t *testing.T) (list []string) {
	t.Helper()
	values := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$instance", ".*", "$pool", ".*")
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			list = append(list, values.Replace(target.Expr))
		}
	}
	for _, v := range d.Templating.List { // label_values(metric, label)
		query := strings.TrimPrefix(v.Definition, "label_values(")
		if at := strings.LastIndexByte(query, ','); at > 0 {
			list = append(list, values.Replace(query[:at]))
		}
	}
	return list
}

// The dashboard has its rows and variables, and panels that do not overlap and have expressions for the chosen instances.
func TestDashboard(t *testing.T) {
	t.Parallel()
	d := readDashboard(t)
	var rows, variables []string
	taken := map[[2]int]string{}
	for _, p := range d.Panels {
		if p.Type == "row" {
			rows = append(rows, p.Title)
		} else if len(p.Targets) == 0 {
			t.Errorf("%s: no expression", p.Title)
		}
		for _, target := range p.Targets {
			if !strings.Contains(target.Expr, `instance=~"$instance"`) {
				t.Errorf("%s: %s does not select the instances", p.Title, target.Expr)
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other := taken[at]; other != "" || at[0] >= 24 {
					t.Fatalf("%s overlaps %s at %v", p.Title, other, at)
				}
				taken[at] = p.Title
			}
		}
	}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
	}
	if want := []string{"Traffic", "Sessions", "Pool4", "Drops by reason", "ICMP and path MTU", "Workers", "DNS64"}; !slices.Equal(rows, want) {
		t.Errorf("the rows are %q, want %q", rows, want)
	}
	if want := []string{"datasource", "instance", "pool"}; !slices.Equal(variables, want) {
		t.Errorf("the variables are %q, want %q", variables, want)
	}
}
