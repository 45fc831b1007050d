package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

// version is set by the linker (-X main.version=…).
var version string

// ownVersion returns the version of this binary.
func ownVersion() control.Version {
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

// versions is the output of the version command.
type versions struct {
	Client control.Version  `json:"nat64ctl"`
	Daemon *control.Version `json:"nat64d,omitempty"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "show the versions of nat64ctl and of the running nat64d",
		Long:  "Show the versions of nat64ctl and of the running nat64d. nat64ctl --version does not connect to nat64d.",
		Args:  none,
		RunE: func(c *cobra.Command, _ []string) error {
			v := versions{Client: ownVersion()}
			lines := []field{{"nat64ctl", words(v.Client)}}
			daemon, err := a.client().Version(c.Context())
			if err == nil {
				v.Daemon = &daemon
				lines = append(lines, field{"nat64d", words(daemon)})
			}
			if printed := printFields(a, v, lines); printed != nil {
				return printed
			}
			return err
		},
	}
}

// words returns a version as a phrase.
func words(v control.Version) string {
	s := v.Version
	if v.Revision != "" {
		s += " " + v.Revision
	}
	return s + " " + v.Go
}
