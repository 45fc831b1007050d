package doctor

import (
	"fmt"
	"slices"

	"nat64d/ops/control"
)

// check is a row of the table.
type check struct {
	name     string
	severity string
	ok       string // what is right if there is no finding
	find     func(*Facts) []finding
}

// checks are all checks, in the order in which a packet from a client meets their subjects.
var checks = []check{
	{"interface", control.SeverityError, "both interfaces are up and have addresses or routes", interfaces},
	{"IPv6 off", control.SeverityError, "the v6 interface has IPv6", ipv6Off},
	{"duplicate address", control.SeverityError, "no other station has an address of the interfaces", duplicates},
	{"smallest MTU", control.SeverityError, "the v6 interface carries what IPv6 needs", tooSmall},
	{"MTU", control.SeverityWarning, "packets of the usual size fit both sides", sizes},
	{"larger MTU", control.SeverityInfo, "clients need not find out that the IPv4 side is smaller", larger},
	{"offloads", control.SeverityWarning, "receive offload is on", offloads},
	{"router", control.SeverityError, "the routers of both sides answer", routers},
	{"default route", control.SeverityWarning, "the v4 interface has a default route", defaultRoute},
	{"forwarding", control.SeverityError, "the machine forwards, where that is needed", forwarding},
	{"router advertisements", control.SeverityWarning, "no interface forwards and ignores Router Advertisements", advertisements},
	{"reverse path", control.SeverityWarning, "the kernel does not filter by the reverse path where routes differ", reversePath},
	{"guard", control.SeverityError, "the machine does not answer for pool4 and pool6", guarded},
	{"pool4 address", control.SeverityError, "the machine or nat64d has the addresses of pool4, and no other station answers for them", addresses},
	{"pool4", control.SeverityError, "pool4 has ports for every protocol", empty},
	{"pool4 full", control.SeverityWarning, "less than 90 % of pool4 is in use", full},
	{"reserved ports", control.SeverityWarning, "the kernel gives no port of pool4 to programs", reserved},
	{"port range", control.SeverityWarning, "the machine has enough ports for its own connections", portRange},
	{"listener", control.SeverityError, "no program listens on a port of pool4", listeners},
	{"connection", control.SeverityWarning, "no connection of the machine uses a port of pool4", connections},
	{"NAT rule", control.SeverityWarning, "no NAT rule of the machine uses ports of pool4", natRules},
	{"IPsec policy", control.SeverityWarning, "no IPsec policy covers translated packets", policies},
	{"paused", control.SeverityError, "translation is not paused", paused},
	{"readiness", control.SeverityError, "nat64d reports no other problem", unready},
	{"DNS64", control.SeverityError, "DNS64 uses a prefix of pool6", disagreement},
	{"DNS64 answer", control.SeverityWarning, "DNS64 answers, if it was asked", silence},
	{"probe", control.SeverityError, "the pinged host answers through the translator, if one was named", echo},
	{"path MTU", control.SeverityWarning, "large packets reach the pinged host, if one was named", pathMTU},
	{"warning", control.SeverityWarning, "nat64d warns of nothing else", warnings},
}

// Examine returns the findings of every check, and one that is ok for each check without any.
func Examine(f *Facts) (list []control.Finding) {
	for _, c := range checks {
		found := c.find(f)
		for _, e := range found {
			e.Check, e.Severity = c.name, c.severity
			list = append(list, e)
		}
		if len(found) == 0 {
			list = append(list, control.Finding{Severity: control.SeverityOK, Check: c.name, Reason: c.ok})
		}
	}
	return list
}

// Failed reports whether a finding is an error.
func Failed(list []control.Finding) bool {
	return slices.ContainsFunc(list, func(f control.Finding) bool { return f.Severity == control.SeverityError })
}

// say returns a finding.
func say(command, format string, args ...any) finding {
	return finding{Reason: fmt.Sprintf(format, args...), Command: command}
}

// nics returns the sides that are not pairs.
func (f *Facts) nics() []*Side {
	return slices.DeleteFunc(f.sides(), func(s *Side) bool { return s.Pair })
}

// sides returns both sides, or one if they are the same interface.
func (f *Facts) sides() []*Side {
	if f.V6.Name == f.V4.Name {
		return []*Side{&f.V6}
	}
	return []*Side{&f.V6, &f.V4}
}
