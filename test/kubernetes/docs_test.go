package kubernetes

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/coredns/caddy/caddyfile"
	networking "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

const page = "../../docs/kubernetes.md"

// examples returns the code blocks of the page in a language.
func examples(t *testing.T, language string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		list = append(list, m[1])
	}
	if len(list) == 0 {
		t.Fatalf("%s has no %s", page, language)
	}
	return list
}

// workflow is the part of a workflow of GitHub Actions that the page uses.
type workflow struct {
	Name string   `json:"name"`
	On   []string `json:"on"`
	Jobs map[string]struct {
		RunsOn string `json:"runs-on"`
		Steps  []struct {
			Name string            `json:"name"`
			Uses string            `json:"uses"`
			With map[string]string `json:"with"`
			Run  string            `json:"run"`
		} `json:"steps"`
	} `json:"jobs"`
}

// pool is the part of Calico's IPPool that the page uses.
type pool struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       struct {
		CIDR        string `json:"cidr"`
		Disabled    bool   `json:"disabled"`
		NATOutgoing bool   `json:"natOutgoing"`
	} `json:"spec"`
}

func TestDocsManifests(t *testing.T) {
	for _, text := range examples(t, "yml") {
		switch {
		case strings.Contains(text, "kind: NetworkPolicy\n"):
			decode[networking.NetworkPolicy](t, nil, []byte(text))
		case strings.Contains(text, "kind: IPPool\n"):
			decode[pool](t, nil, []byte(text))
		default:
			checkWorkflow(t, text)
		}
	}
}

// checkWorkflow checks the syntax of the commands, and that each file of the tree that they name exists.
func checkWorkflow(t *testing.T, text string) {
	t.Helper()
	// YAML 1.1 reads the key on as true.
	text = strings.Replace(text, "\non:", "\n\"on\":", 1)
	var w workflow
	if err := yaml.UnmarshalStrict([]byte(text), &w); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	for _, job := range w.Jobs {
		for _, s := range job.Steps {
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(s.Run)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", s.Name, err, out)
			}
			for _, path := range regexp.MustCompile(`nat64d/(deploy/[a-z0-9./]+)`).FindAllStringSubmatch(s.Run, -1) {
				if _, err := os.Stat("../../" + path[1]); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
		}
	}
}

func TestDocsCorefiles(t *testing.T) {
	for _, text := range examples(t, "corefile") {
		blocks, err := caddyfile.Parse("Corefile", strings.NewReader(text), nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		for _, b := range blocks {
			if len(b.Tokens["forward"]) == 0 || len(b.Tokens["dns64"]) > 0 && len(b.Tokens["kubernetes"]) > 0 {
				t.Errorf("the block %v has the plugins %v", b.Keys, b.Tokens)
			}
		}
	}
}
