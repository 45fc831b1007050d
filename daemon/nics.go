//go:build linux

package daemon

import (
	"nat64d/config"
	"nat64d/linux/afpacket"
	"nat64d/linux/nic"
)

// ringAdvice is the advice in the log message about packets lost in a full ring.
var ringAdvice = map[config.Offloads]string{
	config.OffloadsLeave: "packets are lost before nat64d can take them: interfaces.offloads: manage lets one processor carry many more",
}

// manageNICs configures the NICs if enabled. It always restores settings that a previous daemon has left.
func (d *Daemon) manageNICs() error {
	old, err := d.guard.kept()
	if err != nil {
		return err
	}
	c := &d.config().Interfaces
	var names []string
	if c.Offloads == config.OffloadsManage {
		names = []string{c.V6.Name, c.V4.Name}
	}
	var leave []string
	if !afpacket.UDPSuperPackets() {
		leave = []string{nic.UDPForwarding} // otherwise it would coalesce datagrams that cannot be received
	}
	d.nics = nic.New(names, leave, old, d.guard.keep)
	d.setUpNICs()
	return nil
}

// setUpNICs configures NICs that are not configured yet. A failure does not prevent translation.
func (d *Daemon) setUpNICs() {
	changed, warnings := d.nics.SetUp()
	for _, w := range warnings {
		d.log.Warn("offloads: " + w.Error())
	}
	if len(changed) > 0 {
		d.log.Info("changed settings of interfaces", "now", changed)
	}
}

// putBackNICs restores the original settings of the NICs.
func (d *Daemon) putBackNICs() {
	if err := d.nics.PutBack(); err != nil {
		d.log.Warn("cannot restore all settings of interfaces", "error", err)
	}
}
