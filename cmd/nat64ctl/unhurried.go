package main

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// listingNice is the nice value of a process that lists tables, which is that of the threads of nat64d that do.
const listingNice = 19

// unhurried gives this process a low priority: on the gateway itself, a listing of millions of entries would take the processors from the packets.
func unhurried() {
	threads, _ := os.ReadDir("/proc/self/task") // without /proc the listing is only not as polite
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, listingNice) // new threads inherit it
		}
	}
}
