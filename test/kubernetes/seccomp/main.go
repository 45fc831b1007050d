// Command seccomp prints the profile RuntimeDefault for a process with the given capabilities, as container runtimes have it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func main() {
	process := &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: os.Args[1:]}}
	profile, err := seccomp.GetDefaultProfile(&specs.Spec{Process: process})
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(profile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "seccomp:", err)
		os.Exit(1)
	}
}
