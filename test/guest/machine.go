//go:build linux

package guest

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"nat64d/lab"
)

// machine is a QEMU process and the sockets to it.
type machine struct {
	agent, monitor, counter net.Conn
	console                 console

	cmd     *exec.Cmd
	payload string        // the file with Options.Files
	ended   chan struct{} // closed when the process has ended
	passed  []*os.File    // to the process
}

// newMachine starts QEMU, which runs in the guest's own root directory, as the program of a distribution that this machine
// need not run.
func newMachine(l *lab.Lab, o Options) (m *machine, err error) {
	m = &machine{ended: make(chan struct{})}
	defer m.closePassed()
	root := filepath.Join(o.Dir, "root")
	kernel, err := findKernel(root, cmp.Or(o.Kernel, Debian13))
	if err != nil {
		return m, err
	}
	if m.payload, err = writePayload(filepath.Join(root, "tmp"), o.Files); err != nil {
		return m, err
	}
	args := append(arguments(o, kernel), "-drive", "if=virtio,format=raw,readonly=on,file=/tmp/"+filepath.Base(m.payload))
	network, err := m.network(l)
	if err != nil {
		return m, err
	}
	sockets, err := m.sockets(o)
	if err != nil {
		return m, err
	}
	m.cmd = exec.Command("/usr/bin/qemu-system-x86_64", append(append(args, network...), sockets...)...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Pdeathsig: unix.SIGKILL}
	m.cmd.Dir = "/"
	m.cmd.Stdout, m.cmd.Stderr = &m.console, &m.console
	m.cmd.ExtraFiles = m.passed
	return m, m.run()
}

// run starts the process. The kernel sends Pdeathsig when the thread ends that started the process, so that thread must wait for it.
func (m *machine) run() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			_ = m.cmd.Wait() // close kills it; a caller that waits for an answer reports the console
		}
		close(m.ended)
	}()
	return <-started
}

// arguments are those of the machine itself.
func arguments(o Options, kernel kernel) []string {
	boot := "console=ttyS0 root=/dev/vda rw noatime quiet panic=-1 net.ifnames=0 mitigations=off"
	if !o.Systemd {
		boot += " init=/usr/local/sbin/guest-init"
	}
	args := []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-machine", "q35", "-m", "2048", "-smp", strconv.Itoa(max(1, o.Processors)),
		"-kernel", kernel.image, "-initrd", kernel.initrd, "-append", boot,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "virtio-serial-pci", "-device", "virtio-rng-pci",
		// Changes of the disk are lost at the end.
		"-drive", "if=virtio,format=raw,snapshot=on,file=/disk.img",
	}
	if !o.Count {
		return append(args, "-accel", "tcg", "-cpu", "max")
	}
	// Without fast string instructions, the kernel copies 8 bytes at a time in loops, which are counted, instead of with REP
	// MOVSB, whose iterations are not.
	return append(args, "-accel", "tcg,thread=single", "-icount", "shift=0,sleep=on", "-cpu", "max,-erms,-fsrm,-fzrm,-fsrs")
}

// network opens the TAP devices and returns the arguments for the guest's interfaces.
func (m *machine) network(l *lab.Lab) (args []string, err error) {
	for _, n := range []struct {
		end  *lab.Namespace
		name string
		mac  net.HardwareAddr
	}{{l.Client, "n6", MAC6}, {l.Server, "n4", MAC4}} {
		tap, err := n.end.OpenTAP("eth0")
		if err != nil {
			return nil, err
		}
		args = append(args, "-netdev", fmt.Sprintf("tap,id=%s,fd=%d,vhost=off", n.name, m.pass(os.NewFile(uintptr(tap), "tap"))),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=%s,mac=%v", n.name, n.mac))
	}
	return args, nil
}

// sockets connects to the guest's agent, QEMU's monitor and the counter of instructions.
func (m *machine) sockets(o Options) (args []string, err error) {
	agent, fd, err := m.socket()
	if err != nil {
		return nil, err
	}
	m.agent = agent
	args = append(args, "-chardev", fmt.Sprintf("socket,id=agent,fd=%d", fd), "-device", "virtserialport,chardev=agent")
	if m.monitor, fd, err = m.socket(); err != nil {
		return nil, err
	}
	args = append(args, "-chardev", fmt.Sprintf("socket,id=monitor,fd=%d", fd), "-mon", "chardev=monitor,mode=control")
	if !o.Count {
		return args, nil
	}
	if m.counter, fd, err = m.socket(); err != nil {
		return nil, err
	}
	return append(args, "-plugin", fmt.Sprintf("/count.so,fd=%d", fd)), nil
}

// pass gives a file to the process and returns its descriptor there.
func (m *machine) pass(f *os.File) int {
	m.passed = append(m.passed, f)
	return 2 + len(m.passed)
}

// socket returns one end of a pair of connected sockets; the other one has the returned descriptor in the process.
func (m *machine) socket() (net.Conn, int, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("socketpair", err)
	}
	fd := m.pass(os.NewFile(uintptr(fds[1]), "socket"))
	ours := os.NewFile(uintptr(fds[0]), "socket")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	return conn, fd, err
}

func (m *machine) closePassed() {
	for _, f := range m.passed {
		_ = f.Close() // the process has its own copy
	}
}

// close kills the process and removes its files.
func (m *machine) close() (err error) {
	if m.cmd != nil && m.cmd.Process != nil {
		_ = m.cmd.Process.Kill() // it may have ended
		<-m.ended
	}
	for _, c := range []net.Conn{m.agent, m.monitor, m.counter} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	m.agent, m.monitor, m.counter = nil, nil, nil
	if m.payload != "" {
		err = errors.Join(err, os.Remove(m.payload))
		m.payload = ""
	}
	return err
}

// kernel names the files of a kernel in the guest's root directory.
type kernel struct{ image, initrd string }

// findKernel returns the kernel whose version begins with the given one.
func findKernel(root, version string) (kernel, error) {
	images, err := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-"+version+"*"))
	if err != nil {
		return kernel{}, err
	}
	if len(images) != 1 {
		return kernel{}, fmt.Errorf("kernel %s: %s has %d such kernels, must have one", version, root, len(images))
	}
	name := filepath.Base(images[0])
	return kernel{"/boot/" + name, "/boot/initrd.img-" + name[len("vmlinuz-"):]}, nil
}
