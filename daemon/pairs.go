//go:build linux

package daemon

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"nat64d/config"
	"nat64d/linux/nexthop"
	"nat64d/linux/pair"
	"nat64d/packet"
)

// pairs connect nat64d with the host's own stack, for the sides with attach: host. Only serve, and the task "pairs" while that runs,
// use it, except wrong.
type pairs struct {
	of      [packet.Families]*pair.Pair // nil: this side is a NIC
	changed pair.Settings               // of the host
	wrong   atomic.Pointer[string]      // why packets do not reach nat64d or do not leave, for readiness; nil: nothing
	told    string                      // the last problem in the log
}

// any reports whether a side has a pair.
func (p *pairs) any() bool { return p.of != [packet.Families]*pair.Pair{} }

// names returns the interfaces of the gateway, with the MAC of the host's end of each pair.
func names(c *config.Config) nexthop.Interfaces {
	i := nexthop.Interfaces{V6: c.Interfaces.V6.NIC(), V4: c.Interfaces.V4.NIC(), ServeOwn: c.Host.ServeOwn}
	if c.Interfaces.V6.Attach == config.AttachHost {
		i.Host6 = pair.HostMAC
	}
	if c.Interfaces.V4.Attach == config.AttachHost {
		i.Host4 = pair.HostMAC
	}
	return i
}

// makePairs makes the pairs, or takes over those of an earlier process with their routes.
func (d *Daemon) makePairs(c *config.Config) error {
	d.pairs.changed = pair.Settings{}
	for f, i := range [packet.Families]*config.Interface{&c.Interfaces.V6, &c.Interfaces.V4} {
		if i.Attach != config.AttachHost {
			continue
		}
		p := &pair.Pair{Name: i.Name, Family: packet.Family(f), MTU: cmp.Or(i.MTU, pair.DefaultMTU), Addr: i.Addr}
		kept, err := p.Kept()
		if err != nil {
			return err
		}
		for name, was := range kept {
			d.pairs.changed[name] = was
		}
		if _, err := p.Ensure(); err != nil {
			return err
		}
		d.pairs.of[f] = p
	}
	return nil
}

// settlePairs makes routes, rules and settings of the host what the pairs need now, and returns what it has changed. Everything is
// tried: one problem does not keep other packets from their way.
func (d *Daemon) settlePairs() (changed []string, err error) {
	c := d.config()
	var errs []error
	for f, p := range d.pairs.of {
		if p == nil {
			continue
		}
		what, err := p.Ensure()
		if err == nil {
			var routed []string
			routed, err = p.Route(d.routedTo(packet.Family(f)))
			what = append(what, routed...)
		}
		changed, errs = append(changed, what...), append(errs, err)
		if c.Host.Forwarding == config.ForwardingManage {
			errs = append(errs, d.pairs.changed.Forward(packet.Family(f)), p.Keep(d.pairs.changed))
		}
	}
	rules, err := d.pairRules(c)
	errs = append(errs, err)
	differs, err := rules.Ensure()
	if differs {
		changed = append(changed, "nftables table inet nat64d")
	}
	return changed, errors.Join(append(errs, err)...)
}

// routedTo returns what the host routes to nat64d through the pair of a side.
func (d *Daemon) routedTo(f packet.Family) []netip.Prefix {
	if f == packet.V6 {
		return prefixesOf(d.config().Pool6)
	}
	return summary(d.pool.Addresses())
}

// pairRules returns the rules that belong to the pairs.
func (d *Daemon) pairRules(c *config.Config) (r pair.Rules, err error) {
	if p := d.pairs.of[packet.V4]; p != nil && c.Interfaces.Masquerade {
		r.Masquerade, r.Inside = d.routedTo(packet.V4), p.Name
	}
	if p := d.pairs.of[packet.V6]; p != nil && !c.Host.ServeUplink {
		r.To = p.Name
		r.Refuse, err = pair.Uplinks6()
	}
	return r, err
}

// summary returns the prefixes that contain exactly some IPv4 addresses, which are sorted.
func summary(addrs []netip.Addr) (list []netip.Prefix) {
	number := func(a netip.Addr) uint64 { b := a.As4(); return uint64(binary.BigEndian.Uint32(b[:])) }
	for i := 0; i < len(addrs); {
		first, last := number(addrs[i]), number(addrs[i])
		for i++; i < len(addrs) && number(addrs[i]) == last+1; i++ {
			last++
		}
		for first <= last {
			bits := 32
			for bits > 0 && first%(1<<(33-bits)) == 0 && first+1<<(33-bits)-1 <= last {
				bits--
			}
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], uint32(first))
			list = append(list, netip.PrefixFrom(netip.AddrFrom4(b), bits))
			first += 1 << (32 - bits)
		}
	}
	return list
}

// watchPairs keeps pairs, routes, rules and settings as they have to be.
func (d *Daemon) watchPairs(ctx context.Context) error {
	if !d.pairs.any() {
		return nil
	}
	timer := time.NewTimer(untilNext(checkGuardEvery))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events.pairs:
		case <-timer.C:
			timer.Reset(untilNext(checkGuardEvery))
		}
		d.checkPairs()
	}
}

// checkPairs repairs the pairs and what belongs to them, and logs what it has repaired.
func (d *Daemon) checkPairs() {
	changed, err := d.settlePairs()
	if len(changed) > 0 {
		d.log.Info("attach: host: changed the host", "what", changed)
	}
	if err == nil {
		d.pairs.wrong.Store(nil)
		d.pairs.told = ""
		return
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	d.pairs.wrong.Store(&text)
	if text != d.pairs.told {
		d.log.Error("attach: host: the host does not pass all packets to nat64d or onwards", "error", text)
		d.pairs.told = text
	}
}

// notReady returns what the pairs lack.
func (p *pairs) notReady() []string {
	if w := p.wrong.Load(); w != nil {
		return []string{fmt.Sprintf("attach: host: %s", *w)}
	}
	return nil
}

// endPairs removes everything that belongs to the pairs, and restores the settings. After a handover all of it stays for the next
// process.
func (d *Daemon) endPairs(handover time.Duration) error {
	if handover > 0 || !d.pairs.any() {
		return nil
	}
	errs := []error{(&pair.Rules{}).Remove(), d.pairs.changed.PutBack()}
	for _, p := range d.pairs.of {
		if p != nil {
			errs = append(errs, p.Remove())
		}
	}
	return errors.Join(errs...)
}
