//go:build linux

package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"nat64d/linux/guard"
	"nat64d/ops/control"
)

// maxRoutes limits the routes and neighbours in a bug report.
const maxRoutes = 1000

// Support implements control.Diagnosis. A part that fails has its error instead of its content.
func (b *backend) Support(ctx context.Context) (files []control.SupportFile, err error) {
	for _, p := range []struct {
		name string
		text func() (string, error)
	}{
		{"version.txt", b.versions},
		{"config.txt", b.configText},
		{"status.json", func() (string, error) { return asJSON(b.Status()) }},
		{"stats.json", func() (string, error) { return asJSON(b.Stats()) }},
		{"pool4.json", func() (string, error) { return asJSON(b.Pool4()) }},
		{"doctor.json", func() (string, error) {
			found, err := b.Doctor(ctx, control.DoctorRequest{})
			if err != nil {
				return "", err
			}
			return asJSON(found)
		}},
		{"links.txt", linksText},
		{"addresses.txt", addressesText},
		{"routes.txt", routesText},
		{"rules.txt", rulesText},
		{"neighbours.txt", neighboursText},
		{"nftables.txt", guard.Summary},
		{"log.txt", func() (string, error) { return b.log.tail.String(), nil }},
	} {
		text, err := p.text()
		if err != nil {
			text += "cannot be read: " + err.Error() + "\n"
		}
		files = append(files, control.SupportFile{Name: p.name, Text: withoutSecrets(text)})
	}
	return files, nil
}

// The forms of secrets: the private part of a PEM file, the user of a URL, and values whose name says that they are secret.
var (
	pemSecret   = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)
	urlSecret   = regexp.MustCompile(`(://)[^/@\s"]+@`)
	namedSecret = regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|credential|private_key|api_key)[a-z0-9_.-]*"?\s*[:=]\s*"?)[^\s",}]+`)
)

// withoutSecrets returns text with secrets replaced by "(hidden)".
func withoutSecrets(text string) string {
	text = pemSecret.ReplaceAllString(text, "(hidden)")
	text = urlSecret.ReplaceAllString(text, "${1}(hidden)@")
	return namedSecret.ReplaceAllString(text, "${1}(hidden)")
}

func asJSON(v any) (string, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return string(text) + "\n", err
}

// versions describes this program and the kernel.
func (b *backend) versions() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("uname: %w", err)
	}
	v := b.options.Version
	return fmt.Sprintf("nat64d %s %s (%s)\nkernel %s %s %s\n", v.Version, v.Revision, v.Go,
		unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:])), nil
}

// configText returns the configuration in use, with the origin of each value that is not a default.
func (b *backend) configText() (string, error) {
	keys, err := b.GetConfig("")
	if err != nil {
		return "", err
	}
	var t strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&t, "%s: %s", k.Name, k.Value)
		if k.Value != k.Default {
			fmt.Fprintf(&t, "  # %s", k.Origin)
		}
		t.WriteByte('\n')
	}
	c := b.config()
	fmt.Fprintf(&t, "pool6: %v\n", c.Pool6)
	for _, e := range c.Pool4 {
		fmt.Fprintf(&t, "pool4: %v\n", e)
	}
	for _, r := range c.Bindings {
		fmt.Fprintf(&t, "bib: %v %v\n", r.Mapped, r.Client)
	}
	return t.String(), nil
}

// inLines returns a line for each element, at most maxRoutes.
func inLines[T any](list []T, line func(*T) string) string {
	var b bytes.Buffer
	for i := range list[:min(len(list), maxRoutes)] {
		b.WriteString(line(&list[i]) + "\n")
	}
	if n := len(list) - maxRoutes; n > 0 {
		fmt.Fprintf(&b, "%d more\n", n)
	}
	return b.String()
}

func linksText() (string, error) {
	list, err := netlink.LinkList()
	return inLines(list, func(l *netlink.Link) string {
		a := (*l).Attrs()
		return fmt.Sprintf("%d: %s: %s, %v, MTU %d, %v, %v", a.Index, a.Name, (*l).Type(), a.OperState, a.MTU, a.Flags, a.HardwareAddr)
	}), err
}

func addressesText() (string, error) {
	list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	return inLines(list, func(a *netlink.Addr) string {
		return fmt.Sprintf("%d: %v scope %d flags %#x", a.LinkIndex, a.IPNet, a.Scope, a.Flags)
	}), err
}

func routesText() (string, error) {
	list, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	return inLines(list, func(r *netlink.Route) string { return r.String() }), err
}

func rulesText() (string, error) {
	list, err := netlink.RuleList(netlink.FAMILY_ALL)
	return inLines(list, func(r *netlink.Rule) string { return r.String() }), err
}

func neighboursText() (string, error) {
	list, err := netlink.NeighList(0, netlink.FAMILY_ALL)
	return inLines(list, func(n *netlink.Neigh) string {
		return fmt.Sprintf("%d: %v %v state %#x", n.LinkIndex, n.IP, n.HardwareAddr, n.State)
	}), err
}
