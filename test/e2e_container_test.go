package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"nat64d/lab"
)

// kubernetes is the folder of the manifests.
const kubernetes = "../deploy/kubernetes"

// manifest is the part of the pod that a runtime gets from Kubernetes.
type manifest struct {
	args []string
	adds []string // capabilities
}

// readManifest reads the pod, whose other privileges TestContainer expects.
func readManifest(t *testing.T) manifest {
	t.Helper()
	var m struct {
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Args            []string
						SecurityContext struct {
							RunAsUser                *int `yaml:"runAsUser"`
							Privileged               bool
							AllowPrivilegeEscalation bool `yaml:"allowPrivilegeEscalation"`
							ReadOnlyRootFilesystem   bool `yaml:"readOnlyRootFilesystem"`
							Capabilities             struct{ Drop, Add []string }
							SeccompProfile           struct{ Type string } `yaml:"seccompProfile"`
						} `yaml:"securityContext"`
					}
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, kubernetes+"/base/daemonset.yaml")), &m); err != nil {
		t.Fatal(err)
	}
	c := m.Spec.Template.Spec.Containers[0]
	s := c.SecurityContext
	if s.RunAsUser == nil || *s.RunAsUser != 0 || s.Privileged || s.AllowPrivilegeEscalation || !s.ReadOnlyRootFilesystem ||
		!slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || s.SeccompProfile.Type != "RuntimeDefault" {
		t.Fatalf("unexpected security context %+v", s)
	}
	return manifest{args: c.Args, adds: s.Capabilities.Add}
}

// helper returns a program of another module of the tree: that of the binaries under test, or a new build.
func helper(t *testing.T, module, target string) string {
	t.Helper()
	name := filepath.Base(filepath.Join(module, target))
	if dir := os.Getenv("NAT64D_BIN"); dir != "" {
		if path := filepath.Join(dir, "test", name); exists(path) {
			return path
		}
	}
	path := filepath.Join(scratch, "helpers", name)
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, target)
	cmd.Dir = filepath.Join("..", module)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", module, err, out)
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// runImage unpacks the image of the programs under test and returns a function that starts it in the gateway's namespace, with the
// manifest's privileges except some capabilities and with the configuration of the overlay daemonset.
func runImage(t *testing.T, l *lab.Lab) func(without ...string) *daemon {
	t.Helper()
	m, dir := readManifest(t), t.TempDir()
	crun, _ := tool(t, "crun")
	archive := filepath.Join(dir, "nat64d.tar")
	p := binaries(t)
	write := exec.Command(helper(t, "deploy/container", "."), "-o", archive, "linux/"+runtime.GOARCH+"="+filepath.Dir(p.nat64d))
	if out, err := write.CombinedOutput(); err != nil {
		t.Fatalf("write the image: %v: %s", err, out)
	}
	image := unpackImage(t, archive, filepath.Join(dir, "rootfs"))
	profiles := helper(t, "test/kubernetes", "./seccomp")
	run := filepath.Dir(stateDir(t)) // of a tmpfs, like /run of a node
	return func(without ...string) *daemon {
		t.Helper()
		var capabilities []string
		for _, c := range m.adds {
			if !slices.Contains(without, c) {
				capabilities = append(capabilities, "CAP_"+c)
			}
		}
		profile, err := exec.Command(profiles, capabilities...).Output()
		if err != nil {
			t.Fatal(err)
		}
		spec := runtimeSpec(append(image.Entrypoint, m.args...), image.Env, capabilities, json.RawMessage(profile))
		spec["mounts"] = append(systemMounts(), bind(filepath.Join(kubernetes, "daemonset"), "/etc/nat64d", "ro"), bind(run, "/run/nat64d", "rw"))
		spec["linux"].(map[string]any)["namespaces"] = []map[string]string{
			{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network", "path": "/run/netns/" + l.Gateway.Name},
		}
		text, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "config.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		// crun refuses a machine with both versions of cgroups, but is content with a mount of the second one.
		script := "mount -t cgroup2 none /sys/fs/cgroup && exec " + crun + " --cgroup-manager=disabled run -b " + dir + " " + filepath.Base(run)
		return launchAs(t, l, "unshare", filepath.Join(run, "nat64d.sock"), "-m", "sh", "-c", script)
	}
}

// runtimeSpec returns the configuration for a runtime, with what containerd sets for such a container.
func runtimeSpec(args, env, capabilities []string, seccomp json.RawMessage) map[string]any {
	return map[string]any{
		"ociVersion": "1.0.2",
		"process": map[string]any{
			"args": args, "env": env, "cwd": "/", "user": map[string]int{"uid": 0, "gid": 0}, "noNewPrivileges": true,
			"capabilities": map[string][]string{"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
		},
		"root": map[string]any{"path": "rootfs", "readonly": true},
		"linux": map[string]any{
			"seccomp":       seccomp,
			"maskedPaths":   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"},
			"readonlyPaths": []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

// mountEntry is a mount in the configuration for a runtime.
type mountEntry struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

func systemMounts() []mountEntry {
	return []mountEntry{
		{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
		{"/dev", "tmpfs", "tmpfs", []string{"nosuid", "mode=755", "size=65536k"}},
		{"/sys", "sysfs", "sysfs", []string{"nosuid", "noexec", "nodev", "ro"}},
	}
}

func bind(from, to, mode string) mountEntry {
	from, _ = filepath.Abs(from) // fails only without a working directory
	return mountEntry{to, "bind", from, []string{"rbind", mode}}
}

// The image, with the privileges of the manifest and no others, carries packets of a client and of the node itself. Without the
// capabilities that translation does not need, it does so with a warning; without CAP_NET_RAW it ends with an error that names it.
func TestContainer(t *testing.T) {
	t.Setenv("NAT64D_STATE_SAVE", "true")
	l := network(t, lab.Options{})
	for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} { // as on any node
		if err := l.Gateway.SetSysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	run := runImage(t, l)
	pings := func() {
		t.Helper()
		checkPing(t, l)
		if _, err := l.Gateway.Ping(limit(t, 5*time.Second), lab.Server4As6, 1, 56); err != nil {
			t.Errorf("a ping of the node itself: %v", err)
		}
	}
	g := run()
	g.ready()
	pings()
	checkConfined(t, g)
	out, err := l.Gateway.Output(limit(t, 5*time.Second), "curl", "-s", "http://[::1]:9464/healthz", "http://[::1]:9464/readyz")
	if err != nil || out != "ok\nok\n" {
		t.Errorf("probes: %v: %q", err, out)
	}
	if got := ask64(t, l.Gateway, "@fd00:64::53", "ipv4only.arpa", "A"); got != ipv4only64 {
		t.Errorf("DNS64 on the address for CoreDNS: %s", got)
	}
	before := g.sessions()
	g.stop()

	g = run("BPF", "NET_BIND_SERVICE") // the next pod of a rolling update
	g.ready()
	if n := g.sessions(); n < before {
		t.Errorf("%d sessions of %d outlive the container", n, before)
	}
	pings()
	if log := g.log.String(); !strings.Contains(log, "CAP_BPF") || !strings.Contains(log, "CAP_NET_BIND_SERVICE") {
		t.Errorf("no warning of the missing capabilities: %s", log)
	}
	g.stop()

	if err := l.Gateway.SetSysctl("net/ipv4/ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	g = run()
	eventually(t, startWithin, "the status names the setting that a container cannot change", func() error {
		if out, errs, _ := g.ctl("status"); !strings.Contains(out, "net.ipv4.ip_forward is 0") { // no answer yet, or no check yet
			return fmt.Errorf("%s%s", out, errs)
		}
		return nil
	})
	g.signal(syscall.SIGTERM)
	g.wait()

	g = run("NET_RAW")
	if code := g.wait(); code != 1 || !strings.Contains(g.log.String(), "nat64d runs without CAP_NET_RAW") {
		t.Errorf("exit code %d without CAP_NET_RAW: %s", code, g.log.String())
	}
}

// checkConfined expects that the process has a read-only root, and no capabilities except those of the manifest.
func checkConfined(t *testing.T, g *daemon) {
	t.Helper()
	s := g.status().Sandbox
	for _, c := range s.Capabilities {
		if !slices.Contains([]string{"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_NET_BIND_SERVICE"}, c) {
			t.Errorf("the container has %s", c)
		}
	}
	if !s.NoNewPrivs || !s.Seccomp {
		t.Errorf("sandbox %+v", s)
	}
	crun, _ := tool(t, "crun")
	out, err := exec.Command(crun, "--cgroup-manager=disabled", "state", filepath.Base(filepath.Dir(g.socket))).Output()
	if err != nil {
		t.Fatalf("crun state: %v", err)
	}
	var state struct{ PID int }
	decode(t, string(out), &state)
	var root syscall.Statfs_t
	if err := syscall.Statfs(fmt.Sprintf("/proc/%d/root/", state.PID), &root); err != nil || root.Flags&syscall.MS_RDONLY == 0 {
		t.Errorf("the root of the container: %v, flags %#x", err, root.Flags)
	}
}
