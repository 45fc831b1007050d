package test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// The configurations of the overlays for Kubernetes are valid.
func TestKubernetesConfigurations(t *testing.T) {
	t.Parallel()
	p, err := build()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../deploy/kubernetes/*/nat64d.yaml")
	if err != nil || len(files) != 3 {
		t.Fatalf("configurations %v: %v", files, err)
	}
	for _, file := range files {
		if out, err := exec.Command(p.nat64d, "check", "-c", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
}
