//go:build race

package session_test

import "flag"

// Under the race detector the models take ten times as long, so they make fewer checks. The tests run without it, too.
func init() { _ = flag.Set("rapid.checks", "25") }
