package config

import "github.com/spf13/pflag"

// Given returns the overrides of a command line.
func Given(args ...string) Overrides {
	fs := pflag.NewFlagSet("nat64d", pflag.ContinueOnError)
	AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		panic(err)
	}
	return Overrides{Flags: fs}
}
