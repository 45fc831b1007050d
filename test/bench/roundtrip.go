package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	replyWithin = 100 * time.Millisecond
	askPause    = 500 * time.Microsecond // between a reply and the next request, at least
)

// roundTripOrder contains the server and the number of requests.
type roundTripOrder struct {
	Destination netip.Addr
	Count       int
	Length      time.Duration // maximum duration
	Interval    time.Duration // from one request to the next; 0: only the pause
}

// roundTripResult contains quantiles of the round-trip time.
type roundTripResult struct {
	Median, P99 time.Duration
	Lost        int
}

// roundTrip sends datagrams to the echo server, one at a time. It blocks in the kernel instead of using the runtime's
// poller, which would add to the measured time.
func roundTrip(o roundTripOrder) (roundTripResult, error) {
	family, to := socketAddress(netip.AddrPortFrom(o.Destination, servePort))
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return roundTripResult{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, to); err != nil {
		return roundTripResult{}, os.NewSyscallError("connect", err)
	}
	var r roundTripResult
	var times []time.Duration
	buffer, end := make([]byte, payload), time.Now().Add(o.Length)
	for i := 0; i < o.Count && time.Now().Before(end); i++ {
		next := time.Now().Add(o.Interval)
		if took, ok := ask(fd, uint32(i), buffer); ok {
			times = append(times, took)
		} else {
			r.Lost++
		}
		time.Sleep(max(askPause, time.Until(next)))
	}
	if len(times) == 0 {
		return r, fmt.Errorf("none of %d requests was answered", r.Lost)
	}
	slices.Sort(times)
	r.Median, r.P99 = times[len(times)/2], times[len(times)*99/100]
	return r, nil
}

// ask sends a numbered request and waits for its reply. It ignores late replies to earlier requests.
func ask(fd int, number uint32, buffer []byte) (time.Duration, bool) {
	binary.BigEndian.PutUint32(buffer, number)
	start := time.Now()
	if _, err := unix.Write(fd, buffer); err != nil {
		return 0, false
	}
	for {
		if ok, err := readable(fd, replyWithin); err != nil || !ok {
			return 0, false
		}
		n, err := unix.Read(fd, buffer)
		if err != nil || n < 4 {
			return 0, false
		}
		if binary.BigEndian.Uint32(buffer) == number {
			return time.Since(start), true
		}
	}
}
