package main

import (
	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newResume(a *app) *cobra.Command {
	return newSwitch(a, "resume", "take translation up again", "translating", (*control.Client).Resume)
}
