//go:build linux

package daemon

import (
	"sync/atomic"
	"time"

	"nat64d/config"
	"nat64d/linux/afpacket"
	"nat64d/linux/nic"
	"nat64d/ops/control"
)

// ringAdvice is the advice in the log message about packets lost in a full ring.
var ringAdvice = map[config.Offloads]string{
	config.OffloadsLeave: "packets are lost before nat64d can take them: interfaces.offloads: auto lets one processor carry many more",
}

// nics are the settings of the NICs. Only serve, and the task "interfaces" while that runs, use manager and controller.
type nics struct {
	manager    *nic.Manager
	controller *nic.Controller // nil: no setting follows the load
	udp        bool            // packets of coalesced datagrams can be received
	moved      atomic.Bool     // the v4 interface has become another one
	switches   atomic.Uint64
	last       atomic.Pointer[switched]
}

// switched is the last change of a setting that follows the load.
type switched struct {
	at     time.Time
	reason string
}

// prepareNICs finds out which settings the task "interfaces" changes, if any, and which a previous daemon has left: these it puts back
// in any case.
func (d *Daemon) prepareNICs() error {
	old, err := d.guard.kept()
	if err != nil {
		return err
	}
	c, n := &d.config().Interfaces, &d.nics
	n.udp = afpacket.UDPSuperPackets()
	names, want := []string{c.V6.NIC(), c.V4.NIC()}, nic.Wanted{}
	switch c.Offloads {
	case config.OffloadsAuto:
		want = nic.Static()
		n.controller = nic.NewController()
	case config.OffloadsManage:
		want = nic.Managed(n.udp)
	default:
		names = nil
	}
	n.manager = nic.New(names, want, old, d.guard.keep)
	return nil
}

// moveNICs restores the settings of an interface that is not the v4 interface any more.
func (d *Daemon) moveNICs() {
	if !d.nics.moved.Swap(false) {
		return
	}
	d.putBackNICs()
	if err := d.prepareNICs(); err != nil {
		d.log.Warn("cannot prepare the settings of interfaces", "error", err)
	}
}

// setUpNICs configures NICs that are not configured yet. A failure does not prevent translation.
func (d *Daemon) setUpNICs() {
	changed, warnings := d.nics.manager.SetUp()
	d.warnOffloads(warnings)
	if len(changed) > 0 {
		d.log.Info("changed settings of interfaces", "now", changed)
	}
}

func (d *Daemon) warnOffloads(warnings []error) {
	for _, w := range warnings {
		d.log.Warn("offloads: " + w.Error())
	}
}

// sample returns the counters that the settings follow.
func (d *Daemon) sample() nic.Sample { return nic.Sample(d.gateway.Load()) }

// observeLoad begins to observe the load, and reports whether to call followLoad after nic.Window.
func (d *Daemon) observeLoad() bool {
	if d.nics.controller == nil {
		return false
	}
	d.nics.controller.Begin(d.sample())
	return true
}

// followLoad lets the settings follow the load, and reports whether to call it again after nic.Window.
func (d *Daemon) followLoad() (again bool) {
	c := d.nics.controller
	was := c.Choice()
	now := c.Step(d.sample())
	if now.Threaded != was.Threaded {
		d.switchNICs(nic.Threaded, now.Threaded, now.Reason)
		d.processors.look()
	}
	if now.UDPForwarding != was.UDPForwarding && d.nics.udp {
		d.switchNICs(nic.UDPForwarding, now.UDPForwarding, now.Reason)
	}
	return !c.Rests()
}

// switchNICs turns a setting of all NICs on, or back to its original value.
func (d *Daemon) switchNICs(setting string, on bool, reason string) {
	changed, warnings := d.nics.manager.Switch(setting, on)
	d.warnOffloads(warnings)
	if len(changed) == 0 {
		return
	}
	d.nics.switches.Add(1)
	d.nics.last.Store(&switched{time.Now(), reason})
	d.log.Debug("settings of interfaces follow the load", "now", changed, "reason", reason)
}

// status returns how the settings are chosen.
func (n *nics) status(mode config.Offloads) control.Offloads {
	o := control.Offloads{Mode: string(mode), Switches: n.switches.Load()}
	if last := n.last.Load(); last != nil {
		o.Reason, o.Since = last.reason, control.Seconds(time.Since(last.at))
	}
	return o
}

// putBackNICs restores the original settings of the NICs.
func (d *Daemon) putBackNICs() {
	if err := d.nics.manager.PutBack(); err != nil {
		d.log.Warn("cannot restore all settings of interfaces", "error", err)
	}
}
