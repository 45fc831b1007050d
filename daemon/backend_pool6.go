//go:build linux

package daemon

import (
	"fmt"
	"net/netip"

	"nat64d/config"
	"nat64d/ops/control"
	"nat64d/pool6"
)

// Pool6 implements control.Backend.
func (b *backend) Pool6() []control.Pool6Entry {
	var es []control.Pool6Entry
	for _, p := range b.config().Pool6 {
		es = append(es, control.Pool6Entry{Prefix: p.Prefix()})
	}
	return es
}

// AddPool6 implements control.Backend.
func (b *backend) AddPool6(c control.Pool6Change) (control.Pool6Result, error) {
	return b.changePool6(c, (*config.Config).WithPool6)
}

// RemovePool6 implements control.Backend.
func (b *backend) RemovePool6(c control.Pool6Change) (control.Pool6Result, error) {
	return b.changePool6(c, (*config.Config).WithoutPool6)
}

func (b *backend) changePool6(c control.Pool6Change, with func(*config.Config, string) (*config.Config, error)) (control.Pool6Result, error) {
	prefix, err := pool6.ParsePrefix(c.Prefix)
	if err != nil {
		return control.Pool6Result{}, err
	}
	b.admin.Lock()
	defer b.admin.Unlock()
	next, err := with(b.config(), c.Prefix)
	if err != nil {
		return control.Pool6Result{}, err
	}
	before := b.sessions()
	if err := b.changeLocked(next); err != nil {
		return control.Pool6Result{}, err
	}
	return control.Pool6Result{Prefix: prefix.Prefix(), Sessions: max(0, before-b.sessions())}, nil
}

// sessions returns the number of sessions of all protocols.
func (d *Daemon) sessions() (n int) {
	for _, p := range protocols {
		n += d.gateway.Sessions.Len(p)
	}
	return n
}

// Address implements control.Backend.
func (b *backend) Address(a netip.Addr) (pairs []control.AddressPair, err error) {
	prefixes := b.config().Pool6
	if a.Is4() {
		for i := range prefixes {
			p := &prefixes[i]
			pairs = append(pairs, control.AddressPair{Prefix: p.Prefix(), V6: netip.AddrFrom16(p.Embed(a.As4())), V4: a})
		}
		return pairs, nil
	}
	v6 := a.As16()
	n, ok := pool6.Match(prefixes, &v6)
	if !ok {
		return nil, &control.Error{Message: fmt.Sprintf("%v lies in no prefix of pool6", a), Hint: "nat64ctl pool6 list shows them"}
	}
	p := &prefixes[n]
	return []control.AddressPair{{Prefix: p.Prefix(), V6: a, V4: netip.AddrFrom4(p.Extract(&v6))}}, nil
}
