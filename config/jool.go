package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// alias maps a key of Jool's "global" mode to a key of nat64d. If on and off are empty, both keys have the same values.
// Otherwise Jool's key is a boolean, and on and off are the corresponding values of our key.
type alias struct {
	name, key string
	on, off   string
	rest      bool // the boolean for values other than on and off
}

// aliases has all keys of a NAT64 in Jool 4.1 in Jool's order, except manually-enabled, pool6 and those of its session
// synchronization.
var aliases = []alias{
	{name: "lowest-ipv6-mtu", key: "translation.lowest_ipv6_mtu"},
	{name: "logging-debug", key: "logging.level", on: "debug", off: "info"},
	{name: "zeroize-traffic-class", key: "translation.traffic_class", on: "0", off: "copy"},
	{name: "override-tos", key: "translation.tos", on: "0", off: "copy", rest: true},
	{name: "tos", key: "translation.tos"}, // implies override-tos
	{name: "mtu-plateaus", key: "translation.mtu_plateaus"},
	{name: "address-dependent-filtering", key: "filtering.mode", on: addressDependent, off: endpointIndependent},
	{name: "drop-externally-initiated-tcp", key: "filtering.allow_inbound_tcp", on: "false", off: "true"},
	{name: "drop-icmpv6-info", key: "filtering.icmpv6_info", on: dropInfo, off: passInfo},
	{name: "source-icmpv6-errors-better", key: "icmp.error_source", on: reportingRouter, off: literalDestination},
	{name: "f-args", key: "sessions.port_hash_fields"},
	{name: "handle-rst-during-fin-rcv", key: "sessions.rst_during_fin"},
	{name: "tcp-est-timeout", key: "sessions.timeouts.tcp_established"},
	{name: "tcp-trans-timeout", key: "sessions.timeouts.tcp_transitory"},
	{name: "udp-timeout", key: "sessions.timeouts.udp"},
	{name: "icmp-timeout", key: "sessions.timeouts.icmp"},
	{name: "logging-bib", key: "nat_log.events", on: string(NATEventsBindings), off: string(NATEventsNone), rest: true},
	{name: "logging-session", key: "nat_log.events", on: string(NATEventsSessions), off: string(NATEventsBindings)},
	{name: "maximum-simultaneous-opens", key: "sessions.max_stored_syns"},
}

// isBool reports whether Jool's key is a boolean and ours is not.
func (a alias) isBool() bool { return a.on != "" }

// isOn returns the value of Jool's boolean for a value of our key.
func (a alias) isOn(value string) bool {
	return value == a.on || value != a.off && a.rest
}

// show returns the value of the key in Jool's notation. The zero alias changes nothing.
func (a alias) show(value string) string {
	switch {
	case a.isBool():
		return strconv.FormatBool(a.isOn(value))
	case a.key == "translation.tos" && value == copied.String():
		return "0" // Jool's default, which has no effect without override-tos
	case strings.HasSuffix(a.name, "-timeout"):
		d, _ := parseDuration(value) // written by interval.String
		return clockTime(d)
	}
	return value
}

// read returns the new value of the key for a value in Jool's notation. Setting a boolean to its current value changes
// nothing: if the TOS is 46, override-tos TRUE keeps it at 46.
func (a alias) read(value, current string) (string, error) {
	if strings.HasSuffix(a.name, "-timeout") {
		if d, ok := joolDuration(value); ok {
			return interval(d).String(), nil
		}
	}
	if !a.isBool() {
		return value, nil
	}
	on, err := parseBool(value)
	switch {
	case err != nil || on == a.isOn(current):
		return current, err
	case on:
		return a.on, nil
	default:
		return a.off, nil
	}
}

// joolDuration reads [HH:[MM:]]SS[.mmm]. Unlike in our files, a number without unit is in seconds.
func joolDuration(s string) (time.Duration, bool) {
	parts := strings.Split(s, ":")
	seconds, fraction, exact := strings.Cut(parts[len(parts)-1], ".")
	if len(parts) > 3 || exact && (len(fraction) < 1 || len(fraction) > 3) {
		return 0, false
	}
	parts[len(parts)-1] = seconds
	slices.Reverse(parts)
	var d time.Duration
	for i, unit := range []time.Duration{time.Second, time.Minute, time.Hour}[:len(parts)] {
		n, err := strconv.ParseUint(parts[i], 10, 32)
		if err != nil || i < len(parts)-1 && n > 59 {
			return 0, false
		}
		d += time.Duration(min(n, uint64(longest/unit)+1)) * unit // larger values stay out of bounds
	}
	if exact {
		ms, err := strconv.ParseUint((fraction + "00")[:3], 10, 16)
		if err != nil {
			return 0, false
		}
		d += time.Duration(ms) * time.Millisecond
	}
	return d, true
}

// clockTime returns a duration in Jool's notation.
func clockTime(d time.Duration) string {
	s := fmt.Sprintf("%d:%02d:%02d", d/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
	if ms := d % time.Second / time.Millisecond; ms > 0 {
		s += fmt.Sprintf(".%03d", ms)
	}
	return s
}
