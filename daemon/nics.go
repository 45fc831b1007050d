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
func (p *Daemon) manageNICs() error {
	old, err := p.guard.kept()
	if err != nil {
		return err
	}
	c := &p.config().Interfaces
	var names []string
	if c.Offloads == config.OffloadsManage {
		names = []string{c.V6.Name, c.V4.Name}
	}
	var leave []string
	if !afpacket.UDPSuperPackets() {
		leave = []string{nic.UDPForwarding} // it would join datagrams that could not be received then
	}
	p.nics = nic.New(names, leave, old, p.guard.keep)
	p.setUpNICs()
	return nil
}

// setUpNICs sets up the NICs that are not. That one cannot be is no reason to carry no packets.
func (p *Daemon) setUpNICs() {
	changed, warnings := p.nics.SetUp()
	for _, w := range warnings {
		p.log.Warn("offloads: " + w.Error())
	}
	if len(changed) > 0 {
		p.log.Info("settings of interfaces were changed", "now", changed)
	}
}

// putBackNICs gives the NICs back what they had.
func (p *Daemon) putBackNICs() {
	if err := p.nics.PutBack(); err != nil {
		p.log.Warn("not all settings of interfaces could be put back", "error", err)
	}
}
