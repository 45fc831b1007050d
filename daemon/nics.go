//go:build linux

package daemon

import (
	"nat64d/config"
	"nat64d/linux/afpacket"
	"nat64d/linux/nic"
)

// ringAdvice is what the log says when packets are lost for want of time.
var ringAdvice = map[config.Offloads]string{
	config.OffloadsLeave: "packets are lost before nat64d can take them: interfaces.offloads: manage lets one processor carry many more",
}

// manageNICs sets the NICs up if that is asked for. Whatever a daemon before this one has left is put back.
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
		leave = []string{nic.UDPForwarding} // it would join datagrams that could not be received then
	}
	d.nics = nic.New(names, leave, old, d.guard.keep)
	d.setUpNICs()
	return nil
}

// setUpNICs sets up the NICs that are not. That one cannot be is no reason to carry no packets.
func (d *Daemon) setUpNICs() {
	changed, warnings := d.nics.SetUp()
	for _, w := range warnings {
		d.log.Warn("offloads: " + w.Error())
	}
	if len(changed) > 0 {
		d.log.Info("settings of interfaces were changed", "now", changed)
	}
}

// putBackNICs gives the NICs back what they had.
func (d *Daemon) putBackNICs() {
	if err := d.nics.PutBack(); err != nil {
		d.log.Warn("not all settings of interfaces could be put back", "error", err)
	}
}
