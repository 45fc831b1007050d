//go:build linux

package lab

import (
	"encoding/binary"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connected returns a socket that keeps message boundaries and blocks, and its peer, which does not block.
func connected(t *testing.T) (outer, inner int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	if err := unix.SetNonblock(fds[1], true); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

// A cable carries all frames in order in both directions, also to receivers that are slower than the senders, except
// those that its filter rejects.
func TestCableCarriesFramesInOrder(t *testing.T) {
	t.Parallel()
	const frames, size = 3000, 1500 // more than the buffers of the sockets hold
	hub, hubInner := connected(t)
	end, endInner := connected(t)
	s, err := newSwitch()
	if err != nil {
		t.Fatal(err)
	}
	c := newCable(hubInner, endInner)
	if err := s.add(c); err != nil {
		t.Fatal(err)
	}
	c.SetFilter(func(fromHub bool, frame []byte) bool { return !fromHub || binary.BigEndian.Uint16(frame)%3 != 0 })
	for _, from := range []int{hub, end} {
		go func() {
			b := make([]byte, size)
			for i := range frames {
				binary.BigEndian.PutUint16(b, uint16(i))
				if _, err := unix.Write(from, b); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	time.Sleep(20 * time.Millisecond) // the senders fill all buffers
	b := make([]byte, 2*size)
	for i := range frames {
		for _, to := range []int{hub, end} {
			if to == end && i%3 == 0 {
				continue
			}
			if n, err := unix.Read(to, b); err != nil || n != size || binary.BigEndian.Uint16(b) != uint16(i) {
				t.Fatalf("got %d bytes with number %d, %v; want frame %d", n, binary.BigEndian.Uint16(b), err, i)
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Drive(func() bool { return true }); err != errEnded {
		t.Errorf("a closed switch was driven: %v", err)
	}
}

// Functions that drive a switch run until they return false, concurrently, and the switch carries frames meanwhile.
func TestSwitchIsDriven(t *testing.T) {
	t.Parallel()
	hub, hubInner := connected(t)
	end, endInner := connected(t)
	s, err := newSwitch()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := errors.Join(s.add(newCable(hubInner, endInner)), s.Pin(0)); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	done := make(chan error)
	for range 2 {
		go func() { done <- s.Drive(func() bool { return !stop.Load() }) }()
	}
	b := []byte("frame")
	for _, way := range [][2]int{{hub, end}, {end, hub}} {
		if _, err := unix.Write(way[0], b); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(way[1], b); err != nil || n != len(b) {
			t.Errorf("%d bytes arrived, %v", n, err)
		}
	}
	stop.Store(true)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A cable ends with one of its devices; closing it removes the other one.
func TestCableOfDeletedDevice(t *testing.T) {
	l := newLab(t, Options{TAP: true})
	var carried atomic.Bool
	l.Cable(l.NIC6).SetFilter(func(bool, []byte) bool { carried.Store(true); return true })
	if _, err := l.Client.Ping(limit(t, 5*time.Second), Gateway6, 1, 8); err != nil || !carried.Load() {
		t.Errorf("ping: %v; its frames passed the filter: %v", err, carried.Load())
	}
	if err := l.Gateway.with(l.NIC6, l.Gateway.links.LinkDel); err != nil {
		t.Fatal(err)
	}
	if err := l.Unplug6(); err != nil {
		t.Error(err)
	}
	if _, err := l.Client.links.LinkByName("eth0"); err == nil {
		t.Error("the client's interface still exists")
	}
	if err := l.Plug6(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Client.Ping(limit(t, 5*time.Second), Gateway6, 1, 8); err != nil {
		t.Error(err)
	}
}

func TestOpenTAPReportsName(t *testing.T) {
	l := newLab(t, Options{})
	if _, err := l.Gateway.OpenTAP(l.NIC6); err == nil || !strings.Contains(err.Error(), "TAP device v6 of "+l.Gateway.Name) {
		t.Errorf("a second interface of one name: %v", err)
	}
}
