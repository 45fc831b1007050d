//go:build linux && guest

package guest

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nat64d/lab"
)

// gatewayConfig is the configuration of the unit.
const gatewayConfig = `
interfaces: { v6: { name: eth0 }, v4: { name: eth1 }, offloads: manage }
pool6: [ { prefix: "64:ff9b::/96" } ]
pool4: [ { address: 192.0.2.64, ports: 1024-65535 } ]
`

// boot starts a guest with systemd, the programs under test and the shipped unit, and an echo server at the IPv4 end.
func boot(t *testing.T, kernel string) *Guest {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("must run as root: namespaces and TAP devices")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "nat64d.yaml")
	if err := os.WriteFile(conf, []byte(gatewayConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	bin := directory("NAT64D_BIN", "../../bin")
	g, err := Start(t.Context(), Options{
		Dir: filepath.Join(directory("NAT64D_CACHE", "../../.cache"), "guest"), Kernel: kernel, Systemd: true,
		Files: map[string]string{
			"/usr/local/sbin/nat64d":                     filepath.Join(bin, "nat64d"),
			"/usr/local/sbin/nat64ctl":                   filepath.Join(bin, "nat64ctl"),
			"/etc/systemd/system/nat64d.service":         "../../deploy/systemd/nat64d.service",
			"/etc/systemd/system/run-nat64d-state.mount": "../../deploy/systemd/run-nat64d-state.mount",
			"/etc/sysusers.d/nat64d.conf":                "../../deploy/systemd/nat64d.sysusers",
			"/etc/nat64d/nat64d.yaml":                    conf,
			toolPath:                                     self,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	serve(t, g.Server)
	run(t, g, `set -e
		ip addr add 2001:db8:1::1/64 dev eth0 nodad
		ip addr add 192.0.2.1/24 dev eth1
		systemd-sysusers
		systemctl daemon-reload`)
	return g
}

// directory returns the value of a variable, or a path in the tree.
func directory(variable, path string) string {
	if dir := os.Getenv(variable); dir != "" {
		return dir
	}
	return path
}

// serve starts the echo servers of an end.
func serve(t *testing.T, n *lab.Namespace) {
	t.Helper()
	tcp, err := n.Listen("tcp4", ":"+echoPort)
	if err != nil {
		t.Fatal(err)
	}
	udp, err := n.ListenPacket("udp4", ":"+echoPort)
	if err != nil {
		t.Fatal(err)
	}
	go echoTCP(tcp)
	go echoUDP(udp)
	t.Cleanup(func() { _, _ = tcp.Close(), udp.Close() })
}

// run runs a command in the guest, which must succeed.
func run(t *testing.T, g *Guest, command string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out, err := g.Run(ctx, command)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// equal compares the output of a command in the guest.
func equal(t *testing.T, g *Guest, command, want string) {
	t.Helper()
	if got := run(t, g, command); got != want {
		t.Errorf("%s: %q, want %q", command, got, want)
	}
}

// checkGateway checks that the client reaches the server through the guest.
func checkGateway(t *testing.T, g *Guest) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, size := range []int{56, 3000} {
		if _, err := g.Client.Ping(ctx, lab.Server4As6, 1, size); err != nil {
			t.Errorf("ping with %d bytes: %v", size, err)
		}
	}
	if err := checkEcho(ctx, g.Client.Dial, lab.Server4As6); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Log(run(t, g, "nat64ctl status; nat64ctl stats | awk '$2 != 0'; nft list ruleset; ip -s link; ip neigh; journalctl -u nat64d -n 30"))
	}
}

// eventually polls a command in the guest until it succeeds. If it does not, the error shows its output and the journal of the unit.
func eventually(t *testing.T, g *Guest, command string) {
	t.Helper()
	run(t, g, "until out=$({ "+command+"; } 2>&1); do"+`
			[ $SECONDS -lt 90 ] || { echo "$out"; journalctl -u nat64d -n 20; exit 1; }
			sleep 0.2
		done`)
}

// The systemd of Debian 13 runs the shipped unit.
func TestGuestSystemd(t *testing.T) {
	g := boot(t, Debian13)
	t.Run("Unit", func(t *testing.T) { testUnit(t, g) })
	t.Run("Suspend", func(t *testing.T) { testSuspend(t, g) })
	t.Run("Clock", func(t *testing.T) { testClock(t, g) })
	t.Run("Overcommit", func(t *testing.T) { testOvercommit(t, g) })
	t.Run("Links", func(t *testing.T) { testLinks(t, g) })
	t.Run("Node", func(t *testing.T) { testNode(t, g) })
}

// Debian 12's kernel lacks tcx and the newer netlink attributes.
func TestGuestKernel61(t *testing.T) {
	g := boot(t, Debian12)
	if version := run(t, g, "uname -r"); !strings.HasPrefix(version, Debian12) {
		t.Fatalf("kernel %s, want %s", version, Debian12)
	}
	t.Run("Unit", func(t *testing.T) { testUnit(t, g) })
	t.Run("Links", func(t *testing.T) { testLinks(t, g) })
	t.Run("Node", func(t *testing.T) { testNode(t, g) })
}

// settings prints everything that interfaces.offloads: manage changes, and the rules of the host.
const settings = `for i in eth0 eth1; do cat /sys/class/net/$i/threaded; ethtool -k $i; done; nft list ruleset; sysctl net.ipv4.ip_local_reserved_ports`

func testUnit(t *testing.T, g *Guest) {
	before := run(t, g, settings)
	run(t, g, "install -d -o nat64 -g nat64 /etc/nat64d/conf.d && systemctl start nat64d")
	equal(t, g, "nat64ctl status >/dev/null && systemctl show -p ActiveState --value nat64d", "active") // READY=1 was sent when it answers
	checkGateway(t, g)
	// nat64 has another number in each system; the capabilities are those of the unit.
	equal(t, g, `p=$(systemctl show -p MainPID --value nat64d)
		awk '$1 == "Uid:" { print $2 != 0 } $1 ~ /^(CapEff|NoNewPrivs|Seccomp):/ { print $2 }' /proc/$p/status
		ps -o user= -p $p; test -w /proc/$p/root/usr || echo read-only`,
		"1\n0000008000003400\n1\n2\nnat64\nread-only")
	run(t, g, `nat64ctl status | grep "^sandbox.*seccomp filter, Landlock ABI [1-9]" && ! journalctl -u nat64d | grep "cannot give up"`)
	equal(t, g, "cat /sys/class/net/eth0/threaded /sys/class/net/eth1/threaded", "1\n1")

	run(t, g, "nat64ctl config set --persist sessions.timeouts.udp 6m && systemctl reload nat64d")
	equal(t, g, "cat /etc/nat64d/conf.d/90-nat64ctl.yaml | tail -n 1", "    udp: 6m")
	run(t, g, `cp /etc/nat64d/nat64d.yaml /run/good && echo nonsense >>/etc/nat64d/nat64d.yaml
		! systemctl reload nat64d 2>/dev/null && cp /run/good /etc/nat64d/nat64d.yaml`)
	equal(t, g, "systemctl show -p ActiveState --value nat64d", "active")
	checkGateway(t, g)

	run(t, g, "systemctl kill -s KILL nat64d")
	eventually(t, g, `test "$(systemctl show -p NRestarts --value nat64d)" = 1 && nat64ctl status`)
	checkGateway(t, g)
	run(t, g, "nft flush ruleset")
	eventually(t, g, "nft list ruleset | grep -q nat64d")
	c := conversation(t, g)
	run(t, g, "systemctl restart nat64d")
	checkGateway(t, g)
	run(t, g, "findmnt -n -o OPTIONS /run/nat64d/state | grep huge=within_size && nat64ctl status | grep '^kept .*[1-9][0-9]* sessions* restored'")
	talk(t, c) // the sessions are on the tmpfs that the unit mounts

	// Without a handover, a stop undoes everything.
	run(t, g, `mkdir -p /run/systemd/system/nat64d.service.d && cd /run/systemd/system/nat64d.service.d &&
		printf '[Service]\nExecStart=\nExecStart=/usr/local/sbin/nat64d -c /etc/nat64d/nat64d.yaml\n' >test.conf &&
		systemctl daemon-reload && systemctl restart nat64d && systemctl stop nat64d`)
	equal(t, g, "systemctl show -p Result --value nat64d; test -e /run/nat64d/nat64d.sock || echo removed", "success\nremoved")
	equal(t, g, settings, before)
	run(t, g, "rm -r /run/systemd/system/nat64d.service.d && systemctl daemon-reload")
}

// conversation is a TCP connection that outlives what happens to the gateway.
func conversation(t *testing.T, g *Guest) net.Conn {
	t.Helper()
	c, err := g.Client.Dial(t.Context(), "tcp", net.JoinHostPort(lab.Server4As6, echoPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the test may have closed it
	talk(t, c)
	return c
}

func talk(t *testing.T, c net.Conn) {
	t.Helper()
	if err := exchange(c, 1000, io.ReadFull); err != nil {
		t.Error(err)
	}
}

// A machine that is suspended to memory continues with the same sessions.
func testSuspend(t *testing.T, g *Guest) {
	run(t, g, "systemctl start nat64d")
	c := conversation(t, g)
	suspended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	go func() {
		_, err := g.Run(ctx, "echo mem >/sys/power/state")
		suspended <- err
	}()
	if err := g.WaitSuspended(ctx); err != nil {
		t.Fatal(err)
	}
	if err := g.Wake(); err != nil {
		t.Fatal(err)
	}
	if err := <-suspended; err != nil {
		t.Fatal(err)
	}
	talk(t, c)
	checkGateway(t, g)
	equal(t, g, "systemctl show -p ActiveState -p NRestarts nat64d | sort", "ActiveState=active\nNRestarts=0")
}

// Lifetimes do not depend on the time of day, which jumps when a machine without a battery-backed clock learns it.
func testClock(t *testing.T, g *Guest) {
	run(t, g, "systemctl start nat64d")
	c := conversation(t, g)
	for _, jump := range []string{"+10 years", "-20 years", "+10 years"} {
		run(t, g, "date -s '"+jump+"'")
		talk(t, c)
		checkGateway(t, g)
	}
	if n := strings.TrimSpace(run(t, g, "nat64ctl session list --count")); n == "0" { // stats may be up to some seconds old
		t.Error("the session has ended")
	}
}

// Under strict overcommit, nat64d starts if the kernel may promise enough memory, and otherwise names the settings to raise.
func testOvercommit(t *testing.T, g *Guest) {
	run(t, g, "systemctl stop nat64d; echo 120 >/proc/sys/vm/overcommit_ratio && echo 2 >/proc/sys/vm/overcommit_memory") // 2.4 GB
	refused := run(t, g, "NAT64D_SESSIONS_MAX=50000000 timeout 60 nat64d -c /etc/nat64d/nat64d.yaml 2>&1; echo exit code $?")
	for _, want := range []string{"sessions.max", "vm.overcommit_ratio with vm.overcommit_memory=2", "exit code 1"} {
		if !strings.Contains(refused, want) {
			t.Errorf("with little to promise: it says %q, which lacks %q", refused, want)
		}
	}
	run(t, g, "echo 1000 >/proc/sys/vm/overcommit_ratio && systemctl start nat64d")
	checkGateway(t, g)
	run(t, g, "echo 0 >/proc/sys/vm/overcommit_memory && echo 50 >/proc/sys/vm/overcommit_ratio")
}
