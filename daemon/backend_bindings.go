//go:build linux

package daemon

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"nat64d/bib"
	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/pool4"
)

// AddBinding implements control.Backend.
func (b *backend) AddBinding(c control.BindingChange) (control.BindingResult, error) {
	ranges, err := config.ParseBinding(c.Protocols, c.Client, c.Mapped)
	if err != nil {
		return control.BindingResult{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	added := expand(ranges).minus(b.admin.static)
	if err := b.coverMoreLocked(additions{static: added}, b.admin.local.bypass); err != nil {
		return control.BindingResult{}, fmt.Errorf("nothing was added: %w", err)
	}
	if err := b.bindLocked(added, c.Force || b.config().Host.Force); err != nil {
		_ = b.settleGuardLocked() // restore the previous state; the status reports a failure
		return control.BindingResult{}, err
	}
	r := control.BindingResult{}
	for _, row := range ranges {
		r.Added = append(r.Added, bindingRange(row.Mapped, row.Client))
	}
	if err := b.settledLocked(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

func bindingRange(m pool4.Entry, client netip.AddrPort) control.BindingRange {
	return control.BindingRange{
		Protocol: m.Proto.String(), Client: client.Addr(), ClientPort: client.Port(), Mapped: m.Addr, MappedPort: m.Lo, Count: int(m.Hi-m.Lo) + 1,
	}
}

// RemoveBinding implements control.Backend.
func (b *backend) RemoveBinding(c control.BindingChange) (control.BindingResult, error) {
	match, err := matcher(c)
	if err != nil {
		return control.BindingResult{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	r := control.BindingResult{}
	for m, client := range b.admin.static {
		if match(bib.Binding{Proto: m.Proto, Client: endpoint6(client), Mapped: endpoint4(m)}) {
			delete(b.admin.static, m)
			r.Removed = append(r.Removed, bindingRange(m, client))
		}
	}
	slices.SortFunc(r.Removed, func(x, y control.BindingRange) int {
		return cmp.Or(strings.Compare(x.Protocol, y.Protocol), x.Mapped.Compare(y.Mapped), cmp.Compare(x.MappedPort, y.MappedPort))
	})
	r.Bindings, r.Sessions = b.gateway.Sessions.Purge(match)
	if r.Bindings == 0 && len(r.Removed) == 0 {
		return control.BindingResult{}, &control.Error{Message: "there is no such binding", Hint: "nat64ctl bib list shows them"}
	}
	if err := b.settledLocked(); err != nil {
		r.Warnings = append(r.Warnings, err.Error())
	}
	return r, nil
}

// matcher returns a function that selects the bindings of a removal.
func matcher(c control.BindingChange) (func(bib.Binding) bool, error) {
	if c.Client == "" && c.Mapped == "" {
		return nil, fmt.Errorf("specify the IPv6 or IPv4 transport address of the binding, or both")
	}
	side := func(s string) (config.Endpoint, error) {
		if s == "" {
			return config.Endpoint{}, nil
		}
		if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil { // matches all ports
			return config.Endpoint{Addr: a, Hi: math.MaxUint16}, nil
		}
		return config.ParseEndpoint(s)
	}
	client, err := side(c.Client)
	if err != nil {
		return nil, err
	}
	mapped, err := side(c.Mapped)
	if err != nil {
		return nil, err
	}
	protos := c.Protocols
	in := func(e config.Endpoint, a netip.Addr, port uint16) bool {
		return !e.Addr.IsValid() || e.Addr == a && e.Lo <= port && port <= e.Hi
	}
	return func(row bib.Binding) bool {
		return (len(protos) == 0 || slices.Contains(protos, row.Proto.String())) &&
			in(client, netip.AddrFrom16(row.Client.Addr), row.Client.Port) &&
			in(mapped, netip.AddrFrom4(row.Mapped.Addr), row.Mapped.Port)
	}, nil
}
