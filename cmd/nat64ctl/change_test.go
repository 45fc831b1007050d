package main_test

import (
	"strings"
	"testing"
)

// TestChangeOutput compares the exact output of commands that change the configuration, prefixes and bindings.
func TestChangeOutput(t *testing.T) {
	t.Parallel()
	tests := []struct{ args, want string }{
		{"config get", `
KEY                    VALUE  DEFAULT               CHANGES
sessions.timeouts.udp  10m    5m                    at once
translation.tos        copy   -                     at once
api.group              ""     a group with quite …  restart
`},
		{"config get -o csv", `
name,value,default,live,jool,help
sessions.timeouts.udp,10m,5m,true,udp-timeout,lifetime of a UDP session
translation.tos,copy,copy,true,override-tos tos,TOS towards IPv4
api.group,,a group with quite a long name,false,,group of the users of the socket
`},
		{"config get udp-timeout", `
FIELD    VALUE
key      sessions.timeouts.udp
value    10m
default  5m
origin   /etc/nat64d/nat64d.yaml:7
changes  at once
jool     udp-timeout 0:10:00
meaning  lifetime of a UDP session
`},
		{"config get sessions.timeouts.udp -o json", `
{
  "name": "sessions.timeouts.udp",
  "value": "10m",
  "default": "5m",
  "origin": "/etc/nat64d/nat64d.yaml:7",
  "help": "lifetime of a UDP session",
  "live": true,
  "jool": [
    {
      "name": "udp-timeout",
      "value": "0:10:00"
    }
  ]
}
`},
		{"config set sessions.timeouts.udp 5m", `
sessions.timeouts.udp was 10m, is now 5m
`},
		{"config set sessions.timeouts.udp 10m --persist", `
sessions.timeouts.udp is 10m already
kept in /etc/nat64d/conf.d/90-nat64ctl.yaml
`},
		{"config set sessions.timeouts.udp 5m --persist -o csv", `
name,old,new,persisted
sessions.timeouts.udp,10m,5m,/etc/nat64d/conf.d/90-nat64ctl.yaml
`},
		{"config set sessions.timeouts.udp 5m -o json", `
{
  "name": "sessions.timeouts.udp",
  "old": "10m",
  "new": "5m"
}
`},
		{"global display", `
KEY           VALUE
udp-timeout   0:10:00
override-tos  false
tos           0
`},
		{"global update udp-timeout 5m", `
sessions.timeouts.udp was 10m, is now 5m
`},
		{"reload", `
deny_v4 was "", is now 10.0.0.0/8
sessions.timeouts.udp was 10m, is now 5m
`},
		{"reload -o csv --no-headers", `
deny_v4,,10.0.0.0/8,
sessions.timeouts.udp,10m,5m,
`},
		{"pool6 remove 2001:db8::/32", `
removed 2001:db8::/32
ended 1 session
`},
		{"pool6 remove 2001:db8::/32 -o json", `
{
  "prefix": "2001:db8::/32",
  "sessions_ended": 1
}
`},
		{"addr 192.0.2.1", `
V4         V6                 PREFIX
192.0.2.1  64:ff9b::c000:201  64:ff9b::/96
`},
		{"addr 192.0.2.1 -o csv", `
v4,v6,prefix
192.0.2.1,64:ff9b::c000:201,64:ff9b::/96
`},
		{"bib add tcp 10.0.2.15:7080 [2001:db8::5]:80", `
added 10.0.2.15:7080 to [2001:db8::5]:80 for tcp
`},
		{"bib add --force tcp 10.0.2.15:22 [2001:db8::5]:22", `
added 10.0.2.15:22 to [2001:db8::5]:22 for tcp
`},
		{"bib add udp,tcp 2001:db8::5#8000-8100 10.0.2.15#8000-8100", `
added 10.0.2.15:8000-8100 to [2001:db8::5]:8000-8100 for tcp and udp
`},
		{"bib add all [2001:db8::5]:80 10.0.2.15:7080 -o csv", `
action,protocol,client,client_port,mapped,mapped_port,count
added,tcp,2001:db8::5,80,10.0.2.15,7080,1
added,udp,2001:db8::5,80,10.0.2.15,7080,1
added,icmp,2001:db8::5,80,10.0.2.15,7080,1
`},
		{"bib add tcp [2001:db8::5]:80 10.0.2.15:1", `
nothing to add: the bindings are there already
`},
		{"bib remove tcp 10.0.2.15:7080", `
removed 10.0.2.15:7080 to [2001:db8::5]:80 for tcp
ended 1 binding and 2 sessions
`},
		{"bib remove all [2001:db8::5]:80-85", `
removed 10.0.2.15:8000-8001 to [2001:db8::5]:80-81 for tcp and udp
removed 10.0.2.15:8003 to [2001:db8::5]:83 for tcp
removed 10.0.2.15:8004 to [2001:db8::5]:85 for tcp
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

func TestChangesRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		args string
		code int
		want string
	}{
		{"config get udp", 1, "nat64ctl: unknown key \"udp\"\n"},
		{"config get a b", 2, "nat64ctl: \"b\" is one argument too many\nsee: nat64ctl config get --help\n"},
		{"config set api.group x", 1, "nat64ctl: api.group cannot change while nat64d runs\n"},
		{"config set api.group", 2, "nat64ctl: VALUE is missing\nsee: nat64ctl config set --help\n"},
		{"global update", 2, "nat64ctl: KEY and VALUE are missing\nsee: nat64ctl global update --help\n"},
		{"global", 2, "nat64ctl: global needs a command: display, update\nsee: nat64ctl global --help\n"},
		{"pool6 add x", 1, "nat64ctl: pool6: not a prefix\n"},
		{"pool6 add", 2, "nat64ctl: PREFIX is missing\nsee: nat64ctl pool6 add --help\n"},
		{"addr example.org", 1, "nat64ctl: \"example.org\" is not an address\nhint: use one such as 192.0.2.1 or 64:ff9b::192.0.2.1\n"},
		{"addr 2001:db8::1", 1, "nat64ctl: 2001:db8::1 lies in no prefix of pool6\nhint: nat64ctl pool6 list shows them\n"},
		{"bib add tcp 10.0.2.15:80", 2, "nat64ctl: [V6]:PORTS is missing\nsee: nat64ctl bib add --help\n"},
		{"bib add sctp 10.0.2.15:80 [2001:db8::5]:80", 1, "nat64ctl: \"sctp\" is not a protocol\nhint: use tcp, udp or icmp\n"},
		{"bib add tcp 10.0.2.15:80 10.0.2.16:80", 1, "nat64ctl: 10.0.2.15:80 and 10.0.2.16:80 are on the same side\nhint: give one as 10.0.2.15:7080, the other as [2001:db8::5]:80\n"},
		{"bib add tcp 10.0.2.15:22 [2001:db8::5]:22", 1, "nat64ctl: sshd listens on port 22: force it (--force)\n"},
		{"bib add tcp 192.0.2.1:1 [2001:db8::5]:80", 1, "nat64ctl: 192.0.2.1 is no address of pool4\n"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := call(t, full, strings.Fields(tt.args)...)
			if stdout != "" || stderr != tt.want || code != tt.code {
				t.Errorf("exit code %d, stdout %q, stderr\n%swant %d\n%s", code, stdout, stderr, tt.code, tt.want)
			}
		})
	}
}

func TestReloadWithoutChanges(t *testing.T) {
	t.Parallel()
	if stdout, stderr, code := call(t, empty, "reload"); stdout != "nothing has changed\n" || stderr != "" || code != 0 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestPool6AddWarns(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := call(t, full, "pool6", "add", "2001:db8::/32")
	if stdout != "added 2001:db8::/32\n" || stderr != "nat64ctl: warning: route it to this machine\n" || code != 0 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestKeysComplete(t *testing.T) {
	t.Parallel()
	stdout, _, _ := call(t, full, "__complete", "config", "set", "udp")
	if !strings.HasPrefix(stdout, "udp-timeout\tin Jool: sessions.timeouts.udp\n") {
		t.Errorf("completion of config set udp is %q", stdout)
	}
	stdout, _, _ = call(t, full, "__complete", "global", "update", "sessions")
	if !strings.HasPrefix(stdout, "sessions.timeouts.udp\tlifetime of a UDP session\n") {
		t.Errorf("completion of global update sessions is %q", stdout)
	}
}
