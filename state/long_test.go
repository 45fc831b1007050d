//go:build long && linux

package state

import "testing"

// TestLongNoWrongMapping is TestNoWrongMapping with many more copies.
func TestLongNoWrongMapping(t *testing.T) { noWrongMapping(t, 3000) }
