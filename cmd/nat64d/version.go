//go:build linux

package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// version is set by the linker.
var version = ""

// versionCommand returns the command version, which is equivalent to --version.
func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version of this program",
		Args:              noArguments,
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // unlike the others, it takes no memory
		RunE: func(c *cobra.Command, _ []string) error {
			v := buildVersion()
			text := fmt.Sprintf("nat64d %s (%s)", v.Version, v.Go)
			if v.Revision != "" {
				text += ", commit " + v.Revision
			}
			_, err := fmt.Fprintln(c.OutOrStdout(), text)
			return err
		},
	}
}

// buildVersion returns the version information of this binary.
func buildVersion() control.Version {
	v := control.Version{Version: version, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Version == "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			v.Revision = s.Value
		}
	}
	return v
}
