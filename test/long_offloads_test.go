//go:build long

package test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"nat64d/lab"
	"nat64d/linux/nic"
)

// Every second, threads begin or cease to receive, and receive offload begins or ceases to coalesce datagrams. Ten
// million datagrams arrive in order within each flow, and downloads continue.
func TestLongOrderWhileOffloadsSwitch(t *testing.T) {
	l := network(t, lab.Options{NoOffload: true})
	g := start(t, l, sparePool, "--offloads", "leave", "-c", write(t, t.TempDir(), "interfaces: { workers: 2, pin: [0, 1] }"))
	serveHTTP(t, l)
	stop := flip(t, l, time.Second)
	carryNumbered(t, l, 5_000_000)
	for range 4 {
		checkDownload(t, l, 256<<20)
		checkUpload(t, l, 256<<20)
	}
	if n := stop(); n < 10 {
		t.Errorf("only %d switches", n)
	}
	g.stop()
}

// flip switches the settings that follow the load, until stop is called, which restores them and returns the number of
// switches.
func flip(t *testing.T, l *lab.Lab, every time.Duration) (stop func() int) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		runtime.LockOSThread()
		n := 0
		err := l.Gateway.Do(func() error {
			m := nic.New([]string{l.NIC6, l.NIC4}, nic.Static(), nil, func(nic.Notes) error { return nil })
			m.SetUp()
			for ; ctx.Err() == nil; n++ {
				for _, s := range []string{nic.Threaded, nic.UDPForwarding} {
					if _, warnings := m.Switch(s, n%2 == 0); len(warnings) > 0 {
						t.Error(warnings)
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(every):
				}
			}
			return m.PutBack()
		})
		if err != nil {
			t.Error(err)
		}
		done <- n
	}()
	return func() int {
		cancel()
		return <-done
	}
}

// Ten million datagrams arrive in order within each flow, whichever worker processes them.
func TestLongFlowsStayInOrder(t *testing.T) {
	l := network(t, lab.Options{NoOffload: true})
	g := start(t, l, sparePool, "-c", write(t, t.TempDir(), "interfaces: { workers: 2, pin: [0, 1] }"))
	carryNumbered(t, l, 5_000_000)
	g.stop()
}
