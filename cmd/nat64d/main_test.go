package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestVersionCommand(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}} {
		var out bytes.Buffer
		c := rootCommand(newLogQueue(&out))
		c.SetOut(&out)
		c.SetArgs(args)
		if err := c.Execute(); err != nil || !strings.HasPrefix(out.String(), "nat64d ") || strings.Count(out.String(), "\n") != 1 {
			t.Errorf("nat64d %s prints %q, %v", args[0], out.String(), err)
		}
	}
	c := rootCommand(newLogQueue(new(bytes.Buffer)))
	c.SetArgs([]string{"version", "x"})
	if err := c.Execute(); err == nil {
		t.Error("nat64d version x is accepted")
	}
}

func TestCommandLineHasForce(t *testing.T) {
	c := rootCommand(newLogQueue(new(bytes.Buffer)))
	if c.PersistentFlags().Lookup("force") == nil {
		t.Error("messages suggest --force, and nat64d has it not")
	}
}
