package main_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

func TestTraceOutput(t *testing.T) {
	t.Parallel()
	left := "nat64ctl: 3 packets left out: they come faster than they can be shown; use a narrower filter\n"
	for args, want := range map[string]struct{ out, errs string }{
		"trace --limit 2 --client 2001:db8::8 --peer 198.51.100.0/24 --port 443 --tcp": {`03:04:05.678901 tcp [2001:db8::8]:37878 → [64:ff9b::c633:6407]:443, SYN, 80 bytes, hop limit 64
  prefix      198.51.100.7 behind 64:ff9b::/96  [RFC 6052 section 2.2]
  end         forwarded
03:04:05.678901 tcp
  end         dropped: no_route: no route
`, left},
		"trace --limit 2 -o csv": {`time,verdict,reason,direction,protocol,client,client_port,mapped,mapped_port,peer,peer_port,session,state,length,hint
2026-01-02T03:04:05.678901Z,forwarded,,6to4,tcp,2001:db8::8,37878,10.0.2.15,7042,198.51.100.7,443,made,V6_INIT,80,
2026-01-02T03:04:05.678901Z,dropped,no_route,6to4,tcp,,0,,0,,0,,,80,no route
`, left},
		"trace --limit 1 -o json --drops --reason no_route,too_big": {`{"missed":3}
{"time":"2026-01-02T03:04:05.678901Z","verdict":"forwarded","direction":"6to4","protocol":"tcp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.7","peer_port":443,"session":"made","state":"V6_INIT","received":{"source":"2001:db8::8","source_port":37878,"destination":"64:ff9b::c633:6407","destination_port":443,"protocol":"tcp","flags":"SYN","hop_limit":64,"length":80,"text":"tcp …, SYN"},"sent":{"source":"10.0.2.15","source_port":7042,"destination":"198.51.100.7","destination_port":443,"protocol":"tcp","flags":"SYN","hop_limit":63,"length":60,"text":"tcp …, SYN"},"pieces":1,"next_hop":"02:00:00:00:00:09","mtu":1500,"steps":[{"step":"received","text":"tcp [2001:db8::8]:37878 → [64:ff9b::c633:6407]:443, SYN, 80 bytes, hop limit 64","rfc":"RFC 8200 section 3"},{"step":"prefix","text":"198.51.100.7 behind 64:ff9b::/96","rfc":"RFC 6052 section 2.2"},{"step":"end","text":"forwarded"}]}
`, ""},
	} {
		c := exec.CommandContext(t.Context(), binary, strings.Fields(args)...)
		c.Env = append(os.Environ(), "NAT64D_SOCKET="+full, "TZ=UTC")
		var out, errs bytes.Buffer
		c.Stdout, c.Stderr = &out, &errs
		if err := c.Run(); err != nil || out.String() != want.out || errs.String() != want.errs {
			t.Errorf("%s: %v, stderr %q, stdout\n%swant\n%s", args, err, errs.String(), out.String(), want.out)
		}
	}
}

func TestCaptureOutput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f.pcapng")
	report := "nat64ctl: captured 2 packets, 7 packets left out: they came faster than they could be written; use a narrower filter or --snap\n"
	stdout, stderr, code := call(t, full, "capture", "-w", file, "--limit", "2")
	written, err := os.ReadFile(file)
	if stdout != "" || stderr != report || code != 0 || err != nil {
		t.Errorf("exit code %d, stdout %q, stderr %q, %v", code, stdout, stderr, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode of the file is %v, %v", info.Mode(), err)
	}
	checkFile(t, written)
	stdout, stderr, code = call(t, full, "capture", "-w", "-", "--limit", "2")
	if stderr != report || code != 0 {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	checkFile(t, []byte(stdout))
}

// checkFile reads a capture of the fake daemon: all but its comments, which pcapgo cannot read.
func checkFile(t *testing.T, file []byte) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for n, want := range []string{"abc", "def"} {
		b, info, err := r.ReadPacketData()
		if err != nil || string(b) != want || info.InterfaceIndex != n || info.Length != []int{5, 3}[n] || info.Timestamp.UnixMicro() != 1767323045678901 {
			t.Errorf("packet %d is %q, %+v, %v", n, b, info, err)
		}
	}
	if _, _, err := r.ReadPacketData(); !errors.Is(err, io.EOF) {
		t.Errorf("the file ends with %v", err)
	}
	for n, name := range []string{"lan0", "wan0"} {
		if i, err := r.Interface(n); err != nil || i.Name != name || i.SnapLength != 96 || i.LinkType != layers.LinkTypeRaw {
			t.Errorf("interface %d is %+v, %v", n, i, err)
		}
	}
	if i, _ := r.Interface(0); i.Statistics.PacketsDropped != 7 {
		t.Errorf("%d packets are missing", i.Statistics.PacketsDropped)
	}
	if r.SectionInfo().Application != "nat64d v1" || !bytes.Contains(file, []byte("\x01\x00\x0d\x006to4 received\x00\x00\x00")) {
		t.Errorf("the file is of %q, or a comment is missing:\n%q", r.SectionInfo().Application, file)
	}
}

func TestTraceAndCaptureMistakes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]struct {
		code int
		text string
	}{
		"capture":                         {2, "nat64ctl: the file is missing: add -w FILE, or -w - for a pipe\nsee: nat64ctl capture --help\n"},
		"capture -w /nonexistent/f":       {1, "nat64ctl: open /nonexistent/f: no such file or directory\n"},
		"capture -w - --snap -1":          {2, "nat64ctl: --snap -1 must not be negative\nsee: nat64ctl capture --help\n"},
		"trace --port http":               {2, "nat64ctl: --port \"http\" must be a number from 0 to 65535\nsee: nat64ctl trace --help\n"},
		"trace --port 65536":              {2, "nat64ctl: --port \"65536\" must be a number from 0 to 65535\nsee: nat64ctl trace --help\n"},
		"trace --limit -1":                {2, "nat64ctl: --limit -1 must not be negative\nsee: nat64ctl trace --help\n"},
		"trace --client 192.0.2.1":        {1, "nat64ctl: client \"192.0.2.1\" is wrong\nhint: use an IPv6 address or prefix such as 2001:db8::/64\n"},
		"trace --reason no_rout":          {1, "nat64ctl: there is no drop reason \"no_rout\"\nhint: nat64ctl stats --all lists them\n"},
		"trace 2001:db8::8":               {2, "nat64ctl: \"2001:db8::8\" is one argument too many\nsee: nat64ctl trace --help\n"},
		"capture -w - --drop --limit 1":   {2, "nat64ctl: unknown flag: --drop\nsee: nat64ctl capture --help\n"},
		"capture -w - --limit 1 -o jsonn": {2, "nat64ctl: invalid argument \"jsonn\" for \"-o, --output\" flag: use table, wide, json, yaml, csv\nsee: nat64ctl capture --help\n"},
	} {
		if stdout, stderr, code := call(t, full, strings.Fields(args)...); stdout != "" || !strings.HasPrefix(stderr, strings.TrimSuffix(want.text, "\n")) && stderr != want.text || code != want.code {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q, want %d, %q", args, code, stdout, stderr, want.code, want.text)
		}
	}
	if stdout, _, _ := call(t, full, "__complete", "trace", "--reason", ""); !strings.Contains(stdout, "pool_exhausted\t") {
		t.Errorf("completion of --reason is %q", stdout)
	}
}
