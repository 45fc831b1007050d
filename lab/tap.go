//go:build linux

package lab

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tunDevice is the device that creates TAP devices.
const tunDevice = "/dev/net/tun"

// The offloads of a TAP device. USO has existed since Linux 6.2.
const (
	tapOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN
	tapUSO      = unix.TUN_F_USO4 | unix.TUN_F_USO6
)

// tapRing bounds the memory of the frames that were written to a TAP device and that its host has not processed, like
// the ring of a NIC: about 1300 small frames or 15 super-packets. Without a bound, the kernel would queue frames for a
// NAPI thread until the machine has no memory left. It is the value that QEMU had for many years.
const tapRing = 1 << 20

// tapQueue is the number of frames that a TAP device holds until they are read. It outlasts the time that a reader
// waits for its processor.
const tapQueue = 4096

// VnetHeader is the length of the virtio_net_hdr at the beginning of each frame that is read from or written to a TAP
// device. All zero, it means that the receiver need not do anything.
const VnetHeader = 10

// OpenTAP creates a TAP device in the namespace and returns its non-blocking descriptor. Closing it removes the device.
// The device has the offloads of a virtio NIC, and the fields of the virtio_net_hdr are in native byte order. Written
// frames pass NAPI and GRO.
func (n *Namespace) OpenTAP(name string) (fd int, err error) {
	err = n.Do(func() error {
		fd, err = openTAP(name)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("TAP device %s of %s: %w", name, n.Name, err)
	}
	return fd, nil
}

func openTAP(name string) (fd int, err error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_NAPI)
	fd, err = unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return -1, fmt.Errorf("%w: needs the driver tun and its node: modprobe tun; mkdir -p /dev/net; mknod %s c 10 200",
			&os.PathError{Op: "open", Path: tunDevice, Err: err}, tunDevice)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: tunDevice, Err: err}
	}
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETSNDBUF, tapRing)
	}
	if err == nil && unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tapOffloads|tapUSO) != nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tapOffloads)
	}
	if err != nil {
		_ = unix.Close(fd) // the device is not used
		return -1, os.NewSyscallError("ioctl", err)
	}
	return fd, nil
}
