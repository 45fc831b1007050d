package main

import (
	"fmt"

	"nat64d/table"
)

// affordable has build reserve the tables of so many sessions, and returns an error if they do not fit.
func affordable(sessions int, build func()) (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *table.NoMemory:
			err = fmt.Errorf("the tables for sessions.max: %d do not fit: %w. Write a smaller sessions.max, or raise the limit: ulimit -v, "+
				"LimitAS= of a systemd unit, or vm.overcommit_memory=2, with which vm.overcommit_ratio counts", sessions, e)
		default:
			panic(e)
		}
	}()
	build()
	return nil
}
