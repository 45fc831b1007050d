//go:build linux

package daemon

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"nat64d/config"
	"nat64d/linux/guard"
	"nat64d/linux/nic"
	"nat64d/linux/pair"
	"nat64d/linux/sandbox"
	"nat64d/ops/control"
)

// needed are the capabilities that a gateway uses after its start. SYS_NICE is for the processors of NAPI threads, which begin
// and end with the load: a process that has fewer capabilities than a thread may not move it otherwise.
var needed = []cap.Value{cap.NET_RAW, cap.NET_ADMIN, cap.BPF, cap.NET_BIND_SERVICE, cap.SYS_NICE}

// confine gives up everything that only the start needs.
func (d *Daemon) confine() {
	c := d.config()
	if !d.options.Confine || !c.Host.Sandbox {
		return
	}
	d.ports.loadScreens()
	n := d.options.needs(c)
	n.Capabilities = needed
	n.Files.Read = append(n.Files.Read, "/sys/class/net", "/sys/devices", "/sys/fs/cgroup")
	n.Files.Write = append(nic.Files(c.Interfaces.V6.NIC(), c.Interfaces.V4.NIC()), guard.ReservedPortsFile)
	if d.pairs.any() {
		n.Files.Write = append(n.Files.Write, pair.Files()...)
	}
	if d.kept.opened != nil {
		n.Files.Keep = append(n.Files.Keep, c.State.Dir)
	}
	d.landlock = enter(n, d.log)
}

// confine is that of Daemon for DNS64 alone.
func (a *DNS64) confine() {
	if !a.options.Confine || !a.conf.Host.Sandbox {
		return
	}
	n := a.options.needs(a.conf)
	n.Capabilities = kept // the folder of the socket, which is removed at the end, may belong to another user
	enter(n, a.log)
}

// enter enters the sandbox, and returns the version of Landlock. A kernel that refuses a step does not prevent the service.
func enter(n sandbox.Needs, log *logs) (landlock int) {
	landlock, err := sandbox.Enter(n)
	switch {
	case err != nil:
		log.Warn("cannot give up all privileges that only the start needs, continuing with more", "error", err)
	case landlock == 0:
		log.Info("this kernel has no Landlock, so access to files is not restricted further")
	}
	return landlock
}

// needs returns the files that any process of nat64d needs after its start. It makes the folder of drop-ins, because a later one
// could not be written, and has the certificates for DNS over TLS read, which may be anywhere.
func (o *Options) needs(c *config.Config) (n sandbox.Needs) {
	n.Files = sandbox.Files{
		// Programs that manage users replace /etc/passwd and /etc/group, and only a rule for /etc survives that.
		Read:    []string{"/etc", "/proc"},
		Remove:  []string{filepath.Dir(c.Socket)},
		Connect: []string{c.Socket}, // the watchdog does
	}
	for _, l := range []config.Listen{c.Metrics, c.Web} {
		if l.Path != "" {
			n.Files.Remove = append(n.Files.Remove, filepath.Dir(l.Path))
		}
	}
	if c.DNS64.Enabled {
		_, _ = x509.SystemCertPool() // crypto/x509 keeps it; if it fails, so does DNS over TLS
		if o := c.DNS64.TLS; len(o.Listen) > 0 {
			n.Files.Read = append(n.Files.Read, foldersOf(o.Certificate, o.Key)...)
		}
	}
	if o.File != "" {
		drop := config.DropIns(o.File)
		_ = os.Mkdir(drop, 0o755) // if it fails, so does --persist
		n.Files.Read = append(n.Files.Read, folders(o.File, drop)...)
		n.Files.Keep = append(n.Files.Keep, drop)
	}
	if notify := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(notify, "/") {
		n.Files.Connect = append(n.Files.Connect, notify)
	}
	return n
}

// folders returns the directories of a configuration file and its drop-ins, and of the files that these link to.
func folders(file, drop string) []string {
	links, _ := filepath.Glob(filepath.Join(drop, "*.yaml")) // a name that is no pattern has no drop-ins
	return append(foldersOf(append(links, file)...), drop)
}

// foldersOf returns the directories of files, and of the files that they link to. A rule for a file itself would not survive its
// replacement.
func foldersOf(files ...string) (list []string) {
	for _, file := range files {
		list = append(list, filepath.Dir(file))
		if target, err := filepath.EvalSymlinks(file); err == nil {
			list = append(list, filepath.Dir(target))
		}
	}
	return list
}

// sandbox describes what the process may still do.
func (d *Daemon) sandbox() control.Sandbox {
	s := sandbox.Current()
	return control.Sandbox{Capabilities: s.Capabilities, NoNewPrivs: s.NoNewPrivs, Seccomp: s.Seccomp, Landlock: d.landlock}
}
