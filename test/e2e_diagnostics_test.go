package test

import (
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"nat64d/lab"
)

// diagnostics are the commands that look for a cause. FILE stands for a file that is not there.
var diagnostics = []string{
	"explain tcp " + lab.Client6 + " 20000 " + lab.Server4 + " 7 --flags ack",
	"explain udp " + lab.Client6 + " 20001 " + lab.Server4 + " 53 --size 1500",
	"explain tcp " + lab.Server4 + " 7 " + lab.Spare4 + " 7000 --flags ack",
	"explain tcp " + lab.Client6 + " 20009 " + lab.Server4 + " 7",
	"trace --udp --port 20001 --limit 1",
	"doctor",
	"support-bundle FILE --force",
}

// goldenDiagnostics returns the output of each diagnostic command in a format, with other text for values that differ from run to
// run. The commands run at the same time, because most of them wait.
func goldenDiagnostics(t *testing.T, g *daemon, format string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bundle.tar.gz")
	outputs := make([]string, len(diagnostics))
	var all sync.WaitGroup
	for i, command := range diagnostics {
		all.Go(func() {
			out, errs, code := g.ctl(append(strings.Fields(strings.ReplaceAll(command, "FILE", file)), "-o", format)...)
			if code != 0 {
				t.Errorf("nat64ctl %s: exit code %d: %s", command, code, errs)
			}
			outputs[i] = fmt.Sprintf("$ nat64ctl %s -o %s\n%s\n", command, format, withoutVariables(strings.ReplaceAll(out, file, "FILE")))
		})
	}
	all.Wait()
	return strings.Join(outputs, "")
}

// keepSending sends datagrams of a flow without answers until the test ends, for traces.
func keepSending(t *testing.T, l *lab.Lab, g *daemon) {
	t.Helper()
	c, err := l.Client.DialFrom(limit(t, 5*time.Second), client("udp", 0, 20001), "udp", target+":9")
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(stop); <-done; _ = c.Close() })
	go sendUntil(c, stop, done)
	eventually(t, 5*time.Second, "the flow has a session", func() error { return g.expectClient(20001) })
}

// sendUntil sends a datagram every 10 ms until stop is closed.
func sendUntil(c net.Conn, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		_, _ = c.Write([]byte("datagram")) // the next one may pass
		select {
		case <-tick.C:
		case <-stop:
			tick.Stop()
			return
		}
	}
}

var (
	linkAddress = regexp.MustCompile(`\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	clockTime   = regexp.MustCompile(`(\d{4}-\d\d-\d\dT)?\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)?`)
	fileSize    = regexp.MustCompile(`(?m)^\d+ *([ ,][a-z0-9-]+\.(?:txt|json))$`)
	fileBytes   = regexp.MustCompile(`(bytes"?: ?)\d+`)
)

// withoutVariables replaces link addresses, times and sizes of files.
func withoutVariables(out string) string {
	out = fileBytes.ReplaceAllString(fileSize.ReplaceAllString(out, "N$1"), "${1}N")
	out = clockTime.ReplaceAllString(linkAddress.ReplaceAllString(out, "LINK"), "CLOCK")
	return withoutTimes(out)
}
