//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"nat64d/daemon"
)

func TestVersionCommand(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		var out bytes.Buffer
		c := rootCommand(daemon.NewLogQueue(&out))
		c.SetOut(&out)
		c.SetArgs(args)
		if err := c.Execute(); err != nil || !strings.HasPrefix(out.String(), "nat64d ") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("nat64d %s prints %q, %v", args[0], out.String(), err)
		}
	}
	c := rootCommand(daemon.NewLogQueue(new(bytes.Buffer)))
	c.SetArgs([]string{"version", "x"})
	if err := c.Execute(); err == nil {
		t.Error("nat64d version x is accepted")
	}
}

func TestCommandLineHasForce(t *testing.T) {
	c := rootCommand(daemon.NewLogQueue(new(bytes.Buffer)))
	if c.PersistentFlags().Lookup("force") == nil {
		t.Error("messages suggest --force, but nat64d does not have this flag")
	}
}

// The command rejects an invalid length and states the valid range.
func TestDemoRefusesLength(t *testing.T) {
	t.Parallel()
	for _, seconds := range []string{"0", "61"} {
		c := demoCommand()
		c.SetArgs([]string{"--seconds", seconds})
		if err := c.Execute(); err == nil || !strings.Contains(err.Error(), "1 to 60") {
			t.Errorf("--seconds %s: got %v", seconds, err)
		}
	}
}
