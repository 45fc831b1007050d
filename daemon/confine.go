//go:build linux

package daemon

import (
	"os"
	"path/filepath"
	"strings"

	"kernel.org/pub/linux/libs/security/libcap/cap"

	"nat64d/config"
	"nat64d/linux/guard"
	"nat64d/linux/nic"
	"nat64d/linux/sandbox"
	"nat64d/ops/control"
)

// needed are the capabilities that a gateway uses after its start. SYS_NICE is for the processors of NAPI threads, which begin
// and end with the load: a process that has fewer capabilities than a thread may not move it otherwise.
var needed = []cap.Value{cap.NET_RAW, cap.NET_ADMIN, cap.BPF, cap.NET_BIND_SERVICE, cap.SYS_NICE}

// confine gives up everything that only the start needs. A kernel that refuses a step does not prevent the service.
func (d *Daemon) confine() {
	c := d.config()
	if !d.options.Confine || !c.Host.Sandbox {
		return
	}
	if d.options.File != "" {
		_ = os.Mkdir(config.DropIns(d.options.File), 0o755) // a later one could not be written; if this fails, so does --persist
	}
	d.ports.loadScreens()
	var err error
	d.landlock, err = sandbox.Enter(sandbox.Needs{Capabilities: needed, Files: d.files(c)})
	switch {
	case err != nil:
		d.log.Warn("cannot give up all privileges that only the start needs, continuing with more", "error", err)
	case d.landlock == 0:
		d.log.Info("this kernel has no Landlock, so access to files is not restricted further")
	}
}

// files returns what the daemon still needs of the file system.
func (d *Daemon) files(c *config.Config) sandbox.Files {
	f := sandbox.Files{
		// Programs that manage users replace /etc/passwd and /etc/group, and only a rule for /etc survives that.
		Read:    []string{"/etc", "/proc", "/sys/class/net", "/sys/devices", "/sys/fs/cgroup"},
		Write:   append(nic.Files(c.Interfaces.V6.Name, c.Interfaces.V4.Name), guard.ReservedPortsFile),
		Remove:  []string{filepath.Dir(c.Socket)},
		Connect: []string{c.Socket}, // the watchdog does
	}
	if d.options.File != "" {
		drop := config.DropIns(d.options.File)
		f.Read = append(f.Read, folders(d.options.File, drop)...)
		f.Keep = append(f.Keep, drop)
	}
	if d.kept.dir != nil {
		f.Keep = append(f.Keep, c.State.Dir)
	}
	if notify := os.Getenv("NOTIFY_SOCKET"); strings.HasPrefix(notify, "/") {
		f.Connect = append(f.Connect, notify)
	}
	return f
}

// folders returns the directories of a configuration file and its drop-ins, and of the files that these link to.
func folders(file, drop string) []string {
	list := []string{filepath.Dir(file), drop}
	links, _ := filepath.Glob(filepath.Join(drop, "*.yaml")) // a name that is no pattern has no drop-ins
	for _, link := range append(links, file) {
		if target, err := filepath.EvalSymlinks(link); err == nil {
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
