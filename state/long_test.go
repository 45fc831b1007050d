//go:build long && linux

package state

func init() { rounds = 3000 }
