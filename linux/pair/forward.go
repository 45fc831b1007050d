//go:build linux

package pair

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nat64d/packet"
)

// Settings are network settings that were changed, by their names below /proc/sys/net, with the values that they had before.
type Settings map[string]string

// The settings that make a host forward.
const (
	forward4 = "ipv4/ip_forward"
	forward6 = "ipv6/conf/all/forwarding"
)

// Forward makes the host forward the packets of a family, and adds the changed settings to s. A host that forwards IPv6 ignores
// router advertisements unless accept_ra is 2, so an uplink that lives by them gets that value first.
func (s Settings) Forward(f packet.Family) error {
	if f == packet.V4 {
		return s.change(forward4, "1")
	}
	live, err := uplinks(netlink.FAMILY_V6, unix.RT_TABLE_UNSPEC, func(r *netlink.Route) bool { return r.Protocol == unix.RTPROT_RA })
	if err != nil {
		return err
	}
	for _, u := range live {
		name := filepath.Join("ipv6/conf", u, "accept_ra")
		if now, err := get(name); err != nil || now != "1" {
			continue
		}
		if err := s.change(name, "2"); err != nil {
			return err
		}
	}
	return s.change(forward6, "1")
}

// Forwards reports whether the host forwards packets of a family.
func Forwards(f packet.Family) bool {
	now, err := get(map[packet.Family]string{packet.V6: forward6, packet.V4: forward4}[f])
	return err == nil && now != "0"
}

// change gives a setting a value, and remembers the first one.
func (s Settings) change(name, value string) error {
	was, err := get(name)
	if err != nil || was == value {
		return err
	}
	if _, err := set(name, value); err != nil {
		return fmt.Errorf("sysctl %s is %s and cannot be set to %s: %w", strings.ReplaceAll("net/"+name, "/", "."), was, value, err)
	}
	if _, known := s[name]; !known {
		s[name] = was
	}
	return nil
}

// PutBack restores the settings: forwarding before accept_ra, which the kernel needs as it is while it forwards. A setting that
// another program has changed since, or of an interface that is gone, stays.
func (s Settings) PutBack() error {
	var errs []error
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(s))) {
		ours := "1"
		if strings.HasSuffix(name, "accept_ra") {
			ours = "2"
		}
		if now, err := get(name); err != nil || now != ours {
			continue
		}
		if _, err := set(name, s[name]); err != nil {
			errs = append(errs, err)
		}
	}
	clear(s)
	return errors.Join(errs...)
}

// note is the beginning of the alias of a pair, in which the settings are kept.
const note = "nat64d puts back:"

// Keep writes settings into the alias of the host's end (ip link show), so that a process after a crash knows them.
func (p *Pair) Keep(s Settings) error {
	outer, _, err := p.find()
	if err != nil || outer == nil {
		return err
	}
	words := []string{note}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		words = append(words, name+"="+s[name])
	}
	text := strings.Join(words, " ")
	if text == outer.Attrs().Alias {
		return nil
	}
	return wrap("set the alias of", p.Name, netlink.LinkSetAlias(outer, text))
}

// Kept returns the settings that an earlier process has left in the alias.
func (p *Pair) Kept() (Settings, error) {
	s := Settings{}
	outer, _, err := p.find()
	if err != nil || outer == nil {
		return s, err
	}
	list, ours := strings.CutPrefix(outer.Attrs().Alias, note)
	if !ours {
		return s, nil
	}
	for _, word := range strings.Fields(list) {
		if name, value, ok := strings.Cut(word, "="); ok && known(name) {
			s[name] = value
		}
	}
	return s, nil
}

// known reports whether Forward changes a setting of that name.
func known(name string) bool {
	ok, _ := filepath.Match("ipv6/conf/*/accept_ra", name) // the pattern is well-formed
	return ok || name == forward4 || name == forward6
}

// Uplinks6 returns the interfaces of the IPv6 default routes of all tables.
func Uplinks6() ([]string, error) {
	return uplinks(netlink.FAMILY_V6, unix.RT_TABLE_UNSPEC, func(*netlink.Route) bool { return true })
}

// Uplink4 returns the interface of the IPv4 default route in the main table with the lowest metric, or "".
func Uplink4() (string, error) {
	list, err := uplinks(netlink.FAMILY_V4, unix.RT_TABLE_MAIN, func(*netlink.Route) bool { return true })
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

// uplinks returns the interfaces of the default routes that count, those with the lowest metric first, each once.
func uplinks(family, table int, counts func(*netlink.Route) bool) (names []string, err error) {
	filter := &netlink.Route{Table: table, Type: unix.RTN_UNICAST}
	routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	if err != nil {
		return nil, fmt.Errorf("netlink: list routes: %w", err)
	}
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	for i := range routes {
		if prefixOf(&routes[i]).Bits() > 0 || !counts(&routes[i]) {
			continue
		}
		for _, index := range interfacesOf(&routes[i]) {
			if l, err := netlink.LinkByIndex(index); err == nil && !slices.Contains(names, l.Attrs().Name) {
				names = append(names, l.Attrs().Name)
			}
		}
	}
	return names, nil
}

// interfacesOf returns the indexes of the interfaces of a route.
func interfacesOf(r *netlink.Route) []int {
	if len(r.MultiPath) == 0 {
		return []int{r.LinkIndex}
	}
	var list []int
	for _, h := range r.MultiPath {
		list = append(list, h.LinkIndex)
	}
	return list
}
