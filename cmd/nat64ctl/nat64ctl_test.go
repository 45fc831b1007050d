package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nat64d/ops/control"
)

// TestMain sets these for all tests: the binary, and a daemon with rows and one without.
var binary, full, empty string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "nat64ctl")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "nat64ctl")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v9.8.7", "-buildvcs=false", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	full, empty = filepath.Join(dir, "full"), filepath.Join(dir, "empty")
	var daemons []<-chan error
	for path, b := range map[string]fake{full: {}, empty: {empty: true}} {
		l, err := control.Listen(path, "")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		done := make(chan error, 1)
		go func() { done <- control.Serve(ctx, l, control.NewServer(b, nil, slog.New(slog.DiscardHandler))) }()
		daemons = append(daemons, done)
	}
	code := m.Run()
	stop()
	for _, d := range daemons {
		if err := <-d; err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// call runs the binary against a socket.
func call(t *testing.T, socket string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), binary, args...)
	c.Env = append(os.Environ(), "NAT64D_SOCKET="+socket, "TZ=UTC")
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// TestOutput compares the exact output of commands.
func TestOutput(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, want string }{
		{"status", `
FIELD    VALUE
version  v1.2.3 (go1.26.0), pid 4711
uptime   1d2h
state    ready
v6       ens4, up, MTU 1500, engine ring, bursts, rx-gro, threaded, processors 2-3 (ens4 receives on 0-1)
v4       ens5, DOWN, MTU 1500, engine ring, processors 3 and 2 (interfaces.pin)
kept     in /run/nat64d/state, 2 sessions restored in 2ms, 80ms after the last sign of life of v1.2.2, 3 refused: expired, 1 refused: not in pool4, NO ROOM for 1024 slots: sessions there end with the daemon
sandbox  CAP_NET_ADMIN CAP_NET_RAW, no_new_privs, NO seccomp filter, Landlock ABI 7
pool6    64:ff9b::/96
tcp      1 binding, 2 sessions, 1 of 1001 pool4 ports used on 1 address
6to4     10 packets, 1152921504606846976 bytes
drops    1 packet (nat64ctl stats says why)
`},
		{"status -o csv --no-headers", `
drops,1
goroutines,0
interfaces.0.bursts,true
interfaces.0.engine,ring
interfaces.0.mtu,1500
interfaces.0.name,ens4
interfaces.0.offloads.0,rx-gro
interfaces.0.offloads.1,threaded
interfaces.0.side,v6
interfaces.0.up,true
interfaces.0.workers.0.busy_ratio,0
interfaces.0.workers.0.processors,2-3
interfaces.0.workers.0.why,ens4 receives on 0-1
interfaces.0.workers.1.busy_ratio,0
interfaces.0.workers.1.processors,2-3
interfaces.0.workers.1.why,ens4 receives on 0-1
interfaces.1.bursts,false
interfaces.1.engine,ring
interfaces.1.mtu,1500
interfaces.1.name,ens5
interfaces.1.side,v4
interfaces.1.up,false
interfaces.1.workers.0.busy_ratio,0
interfaces.1.workers.0.processors,3
interfaces.1.workers.0.why,interfaces.pin
interfaces.1.workers.1.busy_ratio,0
interfaces.1.workers.1.processors,2
interfaces.1.workers.1.why,interfaces.pin
paused,false
pid,4711
pool6.0,64:ff9b::/96
protocols.0.bindings,1
protocols.0.pool4_addresses,1
protocols.0.pool4_ports,1001
protocols.0.pool4_used,1
protocols.0.protocol,tcp
protocols.0.sessions,2
ready,true
sandbox.capabilities.0,CAP_NET_ADMIN
sandbox.capabilities.1,CAP_NET_RAW
sandbox.landlock_abi,7
sandbox.no_new_privs,true
sandbox.seccomp,false
state.age_seconds,0.08
state.dir,/run/nat64d/state
state.from_version,v1.2.2
state.refused.expired,3
state.refused.not in pool4,1
state.restored,true
state.restored_sessions,2
state.took_seconds,0.002
state.unkept,1024
traffic.0.bytes,1152921504606846976
traffic.0.direction,6to4
traffic.0.packets,10
uptime_seconds,93780
version.go,go1.26.0
version.version,v1.2.3
`},
		{"pool4 list", `
ADDRESS    PROTO  PORTS      USED  FREE  STATE
10.0.2.15  tcp    7000-8000  1     1000  host
`},
		{"pool4 display --no-headers", `
10.0.2.15  tcp  7000-8000  1  1000  host
`},
		{"pool4 list -o json", `
[
 {"address":"10.0.2.15","protocol":"tcp","ports":"7000-8000","used":1,"free":1000,"state":"host"}
]
`},
		{"pool4 list -o csv", `
address,protocol,ports,used,free,state
10.0.2.15,tcp,7000-8000,1,1000,host
`},
		{"pool4 add 10.0.2.15 7000-8000", `
added 10.0.2.15-10.0.2.16 7000-8000 for tcp, udp and icmp
now one range: 10.0.2.15 7000-9000 for tcp
`},
		{"pool4 add 10.0.2.15 7000-8000 --tcp --udp", `
added 10.0.2.15-10.0.2.16 7000-8000 for tcp and udp
now one range: 10.0.2.15 7000-9000 for tcp
`},
		{"pool4 add 10.0.2.15 1-2", `
nothing to add: pool4 has it already
`},
		{"pool4 add 10.0.2.15 7000 --icmp -o csv", `
action,address,protocol,ports
added,10.0.2.15,icmp,7000
added,10.0.2.16,icmp,7000
merged,10.0.2.15,tcp,7000-9000
`},
		{"pool4 remove 10.0.2.15 7000-7099 -o json", `
{
  "removed": [
    {
      "address": "10.0.2.15",
      "protocol": "udp",
      "ports": "7000-7099"
    }
  ],
  "bindings_ended": 1,
  "sessions_ended": 2
}
`},
		{"pool4 remove 10.0.2.15 7000-7099", `
removed 10.0.2.15 7000-7099 for udp
ended 1 binding and 2 sessions
`},
		{"pool4 flush --yes", `
pool4 was empty already
`},
		{"health", `
ready
`},
		{"pool6 list", `
PREFIX
64:ff9b::/96
`},
		{"bib list", `
PROTO  CLIENT               MAPPED          SESSIONS  KIND
tcp    [2001:db8::8]:37878  10.0.2.15:7042  2         dynamic
udp    [2001:db8::a:8]:53   10.0.2.15:7001  0         static
`},
		{"bib display --udp -o csv", `
protocol,client,client_port,mapped,mapped_port,sessions,static
udp,2001:db8::a:8,53,10.0.2.15,7001,0,true
`},
		{"bib list --client 2001:db8::8 -o json", `
[
 {"protocol":"tcp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"static":false,"sessions":2}
]
`},
		{"bib list --icmp -o json", `
[]
`},
		{"session list", `
PROTO  CLIENT               MAPPED          PEER              EXPIRES  STATE
tcp    [2001:db8::8]:37878  10.0.2.15:7042  198.51.100.7:443  1h59m    ESTABLISHED
udp    [2001:db8::8]:37878  10.0.2.15:7042  198.51.100.7:443  59s      -
tcp    -                    10.0.2.15:7042  198.51.100.9:80   6s       V4_INIT
`},
		{"session list -o csv --peer 198.51.100.9", `
protocol,client,client_port,mapped,mapped_port,peer,peer_port,peer6,peer6_port,expires_seconds,state,idle_seconds
tcp,,,10.0.2.15,7042,198.51.100.9,80,64:ff9b::c633:6409,80,6.000,V4_INIT,0.000
`},
		{"session list -o json --peer 198.51.100.9", `
[
 {"protocol":"tcp","mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.9","peer_port":80,"peer6":"64:ff9b::c633:6409","peer6_port":80,"state":"V4_INIT","expires_seconds":6,"idle_seconds":0}
]
`},
		{"session list -o csv --peer 198.51.100.0/24 --limit 1", `
protocol,client,client_port,mapped,mapped_port,peer,peer_port,peer6,peer6_port,expires_seconds,state,idle_seconds
tcp,2001:db8::8,37878,10.0.2.15,7042,198.51.100.7,443,64:ff9b::c633:6407,443,7198.500,ESTABLISHED,1.500
`},
		{"session list -o json --udp", `
[
 {"protocol":"udp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.7","peer_port":443,"peer6":"64:ff9b::c633:6407","peer6_port":443,"expires_seconds":59,"idle_seconds":240}
]
`},
		{"session list -o wide --udp", `
PROTO  CLIENT               MAPPED          PEER              EXPIRES  STATE  PEER6                     IDLE
udp    [2001:db8::8]:37878  10.0.2.15:7042  198.51.100.7:443  59s      -      [64:ff9b::c633:6407]:443  4m0s
`},
		{"session list -o yaml --udp", `
- protocol: udp
  client: 2001:db8::8
  client_port: 37878
  mapped: 10.0.2.15
  mapped_port: 7042
  peer: 198.51.100.7
  peer_port: 443
  peer6: 64:ff9b::c633:6407
  peer6_port: 443
  expires_seconds: 59
  idle_seconds: 240
`},
		{"session list -o yaml --icmp", `
[]
`},
		{"session list --sort -expires --no-headers --tcp", `
tcp  [2001:db8::8]:37878  10.0.2.15:7042  198.51.100.7:443  1h59m  ESTABLISHED
tcp  -                    10.0.2.15:7042  198.51.100.9:80   6s     V4_INIT
`},
		{"session list --sort expires --limit 1 --no-headers", `
tcp  -  10.0.2.15:7042  198.51.100.9:80  6s  V4_INIT
`},
		{"session list --state v4-init,trans --no-headers", `
tcp  -  10.0.2.15:7042  198.51.100.9:80  6s  V4_INIT
`},
		{"session list --older 1m --no-headers", `
udp  [2001:db8::8]:37878  10.0.2.15:7042  198.51.100.7:443  59s  -
`},
		{"session list --port 80 --mapped 10.0.2.15:7000-7099 --no-headers", `
tcp  -  10.0.2.15:7042  198.51.100.9:80  6s  V4_INIT
`},
		{"session list --count", `
3
`},
		{"session list --count --mapped 10.0.2.16", `
0
`},
		{"session list --count --tcp -o wide", `
FIELD               VALUE
count               2
protocols.tcp       2
states.ESTABLISHED  1
states.V4_INIT      1
`},
		{"session list --count --tcp -o json", `
{
  "count": 2,
  "protocols": {
    "tcp": 2
  },
  "states": {
    "ESTABLISHED": 1,
    "V4_INIT": 1
  }
}
`},
		{"session follow --client 2001:db8::8 --tcp --limit 4 -o json", `
{"time":"2026-11-30T03:00:00Z","event":"lost","lost":2}
{"time":"2026-11-30T03:00:01Z","event":"made","protocol":"tcp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.7","peer_port":443,"peer6":"64:ff9b::c633:6407","peer6_port":443,"state":"ESTABLISHED"}
{"time":"2026-11-30T03:00:02Z","event":"changed","protocol":"tcp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.7","peer_port":443,"peer6":"64:ff9b::c633:6407","peer6_port":443,"state":"ESTABLISHED","before":"V6_INIT"}
{"time":"2026-11-30T03:00:03Z","event":"ended","protocol":"tcp","client":"2001:db8::8","client_port":37878,"mapped":"10.0.2.15","mapped_port":7042,"peer":"198.51.100.7","peer_port":443,"peer6":"64:ff9b::c633:6407","peer6_port":443,"state":"ESTABLISHED","cause":"reset"}
`},
		{"session follow --client 2001:db8::8 --tcp --limit 4 -o csv", `
time,event,protocol,client,client_port,mapped,mapped_port,peer,peer_port,peer6,peer6_port,state,before,cause,lost
2026-11-30T03:00:00Z,lost,,,,,,,,,,,,,2
2026-11-30T03:00:01Z,made,tcp,2001:db8::8,37878,10.0.2.15,7042,198.51.100.7,443,64:ff9b::c633:6407,443,ESTABLISHED,,,
2026-11-30T03:00:02Z,changed,tcp,2001:db8::8,37878,10.0.2.15,7042,198.51.100.7,443,64:ff9b::c633:6407,443,ESTABLISHED,V6_INIT,,
2026-11-30T03:00:03Z,ended,tcp,2001:db8::8,37878,10.0.2.15,7042,198.51.100.7,443,64:ff9b::c633:6407,443,ESTABLISHED,,reset,
`},
		{"session follow --client 2001:db8::8 --tcp --limit 2 -o yaml", `
- time: "2026-11-30T03:00:00Z"
  event: lost
  lost: 2
- time: "2026-11-30T03:00:01Z"
  event: made
  protocol: tcp
  client: 2001:db8::8
  client_port: 37878
  mapped: 10.0.2.15
  mapped_port: 7042
  peer: 198.51.100.7
  peer_port: 443
  peer6: 64:ff9b::c633:6407
  peer6_port: 443
  state: ESTABLISHED
`},
		{"session follow --client 2001:db8::8 --tcp --limit 4", `
TIME          EVENT    PROTO  CLIENT                        MAPPED                 PEER                   STATE
03:00:00.000  lost     2 events missing here: nat64ctl was too slow, or the sessions too many
03:00:01.000  made     tcp    [2001:db8::8]:37878           10.0.2.15:7042         198.51.100.7:443       ESTABLISHED
03:00:02.000  changed  tcp    [2001:db8::8]:37878           10.0.2.15:7042         198.51.100.7:443       V6_INIT > ESTABLISHED
03:00:03.000  ended    tcp    [2001:db8::8]:37878           10.0.2.15:7042         198.51.100.7:443       ESTABLISHED (reset)
`},
		{"session remove --tcp", `
ended 2 sessions
`},
		{"session remove --client 2001:db8:9::/48", `
nothing to end: no session matches
`},
		{"session remove --all --yes -o json", `
{
  "sessions_ended": 3
}
`},
		{"pool4 usage", `
ADDRESS    PROTO  SIZE  USED    HELD  FREE  PEAK
10.0.2.15  tcp    1001  1 (0%)  20    980   730 (72%)

CLIENT         MAPPED     PORTS  SESSIONS
2001:db8::8    10.0.2.15  2      3
2001:db8::a:8  10.0.2.15  1      0
`},
		{"pool4 usage --clients 0 -o yaml", `
pool4:
  - address: 10.0.2.15
    protocol: tcp
    size: 1001
    used: 1
    held: 20
    free: 980
    peak: 730
clients: []
`},
		{"pool4 usage --clients 0 -o csv", `
field,value
pool4.0.address,10.0.2.15
pool4.0.free,980
pool4.0.held,20
pool4.0.peak,730
pool4.0.protocol,tcp
pool4.0.size,1001
pool4.0.used,1
`},
		{"bib list --count --mapped 10.0.2.0/24 --udp", `
1
`},
		{"bib list --sort sessions --no-headers", `
udp  [2001:db8::a:8]:53   10.0.2.15:7001  0  static
tcp  [2001:db8::8]:37878  10.0.2.15:7042  2  dynamic
`},
		{"stats", `
COUNTER                    VALUE                 MEANING
packets{direction="6to4"}  18446744073709551615  translated
drops{reason="hop_limit"}  3                     hop limit used up, "traceroute"
`},
		{"stats --all -o csv", `
name,labels,value,kind,help
packets,"{direction=""6to4""}",18446744073709551615,packets,translated
drops,"{reason=""hop_limit""}",3,drop,"hop limit used up, ""traceroute"""
drops,"{reason=""no_route""}",0,drop,no route
`},
		{"pause", `
paused; nat64ctl resume continues translation
`},
		{"--version", `
nat64ctl v9.8.7
`},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := call(t, full, strings.Fields(tt.args)...)
			if want := tt.want[1:]; stdout != want || stderr != "" || code != 0 {
				t.Errorf("exit code %d, stderr %q, stdout\n%swant\n%s", code, stderr, stdout, want)
			}
		})
	}
}

func TestEmptyDaemon(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"pool4 list":         "ADDRESS  PROTO  PORTS  USED  FREE  STATE\n",
		"pool4 list -o json": "[]\n",
		"session list":       "PROTO  CLIENT  MAPPED  PEER  EXPIRES  STATE\n",
	} {
		if stdout, stderr, code := call(t, empty, strings.Fields(args)...); stdout != want || stderr != "" || code != 0 {
			t.Errorf("%s: %d, %q, %q", args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := call(t, empty, "health"); stdout != "not ready: pool4 is empty\n" || stderr != "" || code != 1 {
		t.Errorf("health: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if stdout, _, code := call(t, empty, "health", "-o", "json"); !strings.Contains(stdout, `"pool4 is empty"`) || code != 1 {
		t.Errorf("health: exit code %d, stdout %q", code, stdout)
	}
	stdout, _, _ := call(t, empty, "status")
	for _, want := range []string{"\nstate      NOT READY\n", "\nnot ready  pool4 is empty\n", "\nwarning    group nat64 does not exist\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("status lacks %q:\n%s", want, stdout)
		}
	}
}

// TestRefusals checks exit codes and error messages, which go to stderr with a hint.
func TestRefusals(t *testing.T) {
	t.Parallel()
	none := filepath.Join(t.TempDir(), "none")
	tests := []struct {
		socket, args string
		code         int
		want         string
	}{
		{full, "pool4 add 10.0.2.15 8000-7000", 1, "nat64ctl: pool4: ports 8000-7000: the range is reversed: write 7000-8000\n"},
		{full, "pool4 add 10.0.2.15 22", 1, "nat64ctl: port 22 is in use by this machine\nhint: add --force if that is meant\n"},
		{full, "resume", 1, "nat64ctl: not paused\n"},
		{full, "bib list --client 10.0.0.1", 1, "nat64ctl: client \"10.0.0.1\" is wrong\nhint: use an IPv6 address or prefix such as 2001:db8::/64\n"},
		{full, "session list --peer 10.0.0.0/33", 1, "nat64ctl: peer \"10.0.0.0/33\" is wrong\nhint: use an IPv4 address or prefix such as 192.0.2.0/24\n"},
		{full, "pool4 add", 2, "nat64ctl: ADDRESS is missing\nsee: nat64ctl pool4 add --help\n"},
		{full, "pool4 add a b c", 2, "nat64ctl: \"c\" is one argument too many\nsee: nat64ctl pool4 add --help\n"},
		{full, "pool4 flush", 2, "nat64ctl: flush ends every session; if that is meant, add --yes\nsee: nat64ctl pool4 flush --help\n"},
		{full, "pool4", 2, "nat64ctl: pool4 needs a command: add, flush, list, remove, usage\nsee: nat64ctl pool4 --help\n"},
		{full, "pool4 lst", 2, "nat64ctl: unknown command \"lst\"; did you mean list?\nsee: nat64ctl pool4 --help\n"},
		{full, "stauts", 2, "nat64ctl: unknown command \"stauts\"; did you mean stats or status?\nsee: nat64ctl --help\n"},
		{full, "completion tcsh", 2, "nat64ctl: unknown command \"tcsh\"; did you mean bash or zsh or fish?\nsee: nat64ctl completion --help\n"},
		{full, "status --nope", 2, "nat64ctl: unknown flag: --nope\nsee: nat64ctl status --help\n"},
		{full, "status -o xml", 2, "nat64ctl: invalid argument \"xml\" for \"-o, --output\" flag: use table, wide, json, yaml, csv\nsee: nat64ctl status --help\n"},
		{full, "status --timeout 0s", 2, "nat64ctl: --timeout 0s must be more than 0\nsee: nat64ctl status --help\n"},
		{full, "bib list --limit -1", 2, "nat64ctl: --limit -1 must not be negative\nsee: nat64ctl bib list --help\n"},
		{none, "health", 3, "nat64ctl: nat64d does not answer on " + none + ": no process listens there; start nat64d, or set its socket with --socket\n"},
		{none, "status", 3, "nat64ctl: nat64d does not answer on " + none + ": no process listens there; start nat64d, or set its socket with --socket\n"},
		{full, "pause --socket " + none, 3, "nat64ctl: nat64d does not answer on " + none + ": no process listens there; start nat64d, or set its socket with --socket\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := call(t, tt.socket, strings.Fields(tt.args)...)
			if stdout != "" || stderr != tt.want || code != tt.code {
				t.Errorf("exit code %d, stdout %q, stderr\n%swant %d\n%s", code, stdout, stderr, tt.code, tt.want)
			}
		})
	}
}

func TestWarningsGoToStderr(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := call(t, full, "pool4", "add", "10.0.2.15", "22", "--tcp", "--force")
	if code != 0 || !strings.HasPrefix(stdout, "added ") || stderr != "nat64ctl: warning: sshd listens on port 22\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestVersionAsksTheDaemon(t *testing.T) {
	t.Parallel()
	stdout, _, code := call(t, full, "version", "--no-headers")
	if code != 0 || !strings.HasPrefix(stdout, "nat64ctl  v9.8.7 ") || !strings.HasSuffix(stdout, "\nnat64d    v1.2.3 go1.26.0\n") {
		t.Errorf("exit code %d, stdout %q", code, stdout)
	}
	stdout, stderr, code := call(t, filepath.Join(t.TempDir(), "none"), "version", "--no-headers")
	if code != 3 || !strings.HasPrefix(stdout, "nat64ctl  v9.8.7 ") || !strings.Contains(stderr, "no process listens there") {
		t.Errorf("without a daemon: exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if stdout, stderr, code := call(t, full, "completion", shell); code != 0 || !strings.Contains(stdout, "nat64ctl") || stderr != "" {
			t.Errorf("%s: exit code %d, stderr %q", shell, code, stderr)
		}
	}
	if stdout, _, _ := call(t, full, "__complete", "pool4", "r"); !strings.HasPrefix(stdout, "remove\t") {
		t.Errorf("completion of pool4 r is %q", stdout)
	}
	if stdout, _, _ := call(t, full, "__complete", "status", "-o", ""); !strings.HasPrefix(stdout, "table\nwide\njson\nyaml\ncsv\n:4") {
		t.Errorf("completion of -o is %q", stdout)
	}
}

func TestHelpNamesExitCodes(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := call(t, full)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "3  nat64d is not reachable") {
		t.Errorf("exit code %d, stderr %q, stdout\n%s", code, stderr, stdout)
	}
}
