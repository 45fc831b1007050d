//go:build linux

package afpacket

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// scripted is a receiver that calls a function for each take.
type scripted struct {
	receiver
	taken int
	do    func() int
}

func (s *scripted) take([]packet.Frame) (int, error) {
	s.taken++
	return s.do(), nil
}

// eager returns a busyPoller that polls for the longest time after its next packet.
func eager(p *Processors) *busyPoller {
	return &busyPoller{processors: p, control: pollControl{length: pollMost, credit: pollSavings}}
}

// onOneProcessor binds the calling test to the processor that it runs on.
func onOneProcessor(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // not unlocked: the thread ends with the test
	var set unix.CPUSet
	set.Set(int(currentCPU()))
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
}

func TestBusyPollerPollsOnlyAfterPackets(t *testing.T) {
	t.Parallel()
	p, rx := eager(new(Processors)), &scripted{do: func() int { return 0 }}
	poll := func() (taken int) {
		t.Helper()
		before := rx.taken
		if n, err := p.poll(rx, nil, time.Second); n != 0 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		return rx.taken - before
	}
	if n := poll(); n != 0 {
		t.Errorf("without packets: %d polls", n)
	}
	p.received(1)
	if n := poll(); n == 0 {
		t.Error("after a packet: no poll")
	}
	if n := poll(); n != 0 {
		t.Errorf("in the same lull: %d more polls", n)
	}
}

func TestBusyPollerReturnsPackets(t *testing.T) {
	t.Parallel()
	p, rx := eager(new(Processors)), &scripted{do: func() int { return 2 }}
	p.received(1)
	if n, err := p.poll(rx, nil, time.Second); n != 2 || err != nil || rx.taken != 1 {
		t.Errorf("%d, %v after %d polls; want 2, nil after 1", n, err, rx.taken)
	}
}

func TestBusyPollerStopsForAnotherWorkerOnItsProcessor(t *testing.T) {
	t.Parallel()
	onOneProcessor(t)
	processors := new(Processors)
	p, other := eager(processors), eager(processors)
	other.received(1)
	if _, err := other.poll(&scripted{do: func() int { return 0 }}, nil, 0); err != nil {
		t.Fatal(err)
	}
	rx := &scripted{do: func() int {
		other.received(1)
		return 0
	}}
	p.received(1)
	if n, err := p.poll(rx, nil, time.Second); n != 0 || err != nil || rx.taken != 1 {
		t.Errorf("%d, %v after %d polls; want 0, nil after 1", n, err, rx.taken)
	}
	p.received(1)
	if l := p.current; l.gap > l.polled {
		t.Errorf("the poll of %v does not cover the packet of the other worker after %v", l.polled, l.gap)
	}
}

// A burst of packets in a short time is not followed by a poll.
func TestBusyPollerSleepsInDenseTraffic(t *testing.T) {
	t.Parallel()
	p, rx := eager(new(Processors)), &scripted{do: func() int { return 0 }}
	p.received(1)
	p.missing = time.Since(epoch)
	p.received(int(time.Minute / sparse))
	if _, err := p.poll(rx, nil, time.Second); err != nil || rx.taken != 0 {
		t.Errorf("%d polls, %v", rx.taken, err)
	}
}
