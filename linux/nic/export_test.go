//go:build linux

package nic

// NAPIThreads returns the threads of a NIC for tests.
var NAPIThreads = napiThreads
