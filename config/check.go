package config

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"nat64d/pool4"
)

// check turns the values of a file into a Config and reports values that are out of bounds.
func (d *document) check(f *file) *Config {
	d.within("version", f.Version, 1, 1)
	f.attach()
	c := &Config{
		Interfaces: Interfaces{
			V6:         d.interface6(&f.Interfaces.V6),
			V4:         d.interface4(&f.Interfaces.V4),
			Masquerade: f.Interfaces.V4.Masquerade,
			Engine:     oneOf(d, "interfaces.engine", f.Interfaces.Engine, "auto", "ring", "mmsg", "simple"),
			Workers:    d.within("interfaces.workers", int(f.Interfaces.Workers), 0, 256),
			Pin:        d.pin(f.Interfaces.Pin),
			Coalesce:   f.Interfaces.Coalesce,
			Bursts:     f.Interfaces.Bursts,
			Moderation: d.short("interfaces.moderation", f.Interfaces.Moderation),
			BusyPoll:   d.busyPoll("interfaces.busy_poll", f.Interfaces.BusyPoll),
			Offloads:   oneOf(d, "interfaces.offloads", f.Interfaces.Offloads, OffloadsAuto, OffloadsLeave, OffloadsManage),
		},
		DenyV4:  d.denyV4(f.DenyV4),
		AllowV4: d.prefixes("allow_v4", f.AllowV4, "IPv4", netip.Addr.Is4),
		AllowV6: d.prefixes("allow_v6", f.AllowV6, "IPv6", netip.Addr.Is6),
		Host: Host{
			Guard:           f.Host.Guard,
			ReservePorts:    f.Host.ReservePorts,
			Force:           f.Host.Force,
			ShareInterfaces: f.Host.ShareInterfaces,
			Sandbox:         f.Host.Sandbox,
			Forwarding:      oneOf(d, "host.forwarding", f.Host.Forwarding, ForwardingManage, ForwardingLeave),
			ServeUplink:     f.Host.ServeUplink,
			ServeOwn:        f.Host.ServeOwn,
			AnswerARP:       oneOf(d, "host.answer_arp", onOff(f.Host.AnswerARP), "auto", "on", "off"),
		},
		Sessions:    d.sessions(f),
		Fragments:   d.fragments(f.Fragments),
		MemoryLimit: d.memoryLimit(int(f.MemoryLimit)),
		Filtering:   d.filtering(f.Filtering),
		Translation: d.translation(f.Translation),
		ICMP:        d.icmp(f.ICMP),
		Log: Log{
			Level:  oneOf(d, "logging.level", f.Logging.Level, "debug", "info", "warn", "error"),
			Format: oneOf(d, "logging.format", f.Logging.Format, "auto", "text", "json"),
		},
		NATEvents: d.natEvents(f),
		Socket:    d.socket(f.API.Socket),
		Group:     f.API.Group,
		ReadGroup: f.API.ReadGroup,
		Warnings:  d.warnings,
		source:    f,
		origin:    d.origins(),
	}
	c.Pool4, c.Followed, c.Pool4Rules = d.pool4(f.Pool4)
	c.State = d.state(f.State)
	c.Probe = d.probe(f.Health.Probe)
	c.Pool6, c.PrivateV4 = d.pool6(f.Pool6)
	c.BypassV6 = d.bypassV6(f.BypassV6, c.Pool6)
	c.DNS64 = d.dns64(&f.DNS64, c)
	c.Metrics = d.listen("metrics.listen", f.Metrics.Listen)
	c.Web = d.listen("web.listen", f.Web.Listen)
	c.Bindings = d.bindings(f.BIB, c)
	f.settle(c)
	return c
}

// settle writes values that have several notations back in one of them, so that equal configurations show equal values.
func (f *file) settle(c *Config) {
	f.Host.AnswerARP = c.Host.AnswerARP
	f.ICMP.Errors = string(c.ICMP.Errors)
	f.Sessions.AllowUnsafeTimeouts = f.Sessions.AllowUnsafeTimeouts || f.AllowUnsafeTimeouts
	f.AllowUnsafeTimeouts = false
	f.Translation.MTUPlateaus = c.Translation.MTUPlateaus
	f.DenyV4, f.AllowV4, f.BypassV6, f.AllowV6 = texts(c.DenyV4), texts(c.AllowV4), texts(c.BypassV6), texts(c.AllowV6)
	f.DNS64.settle(&c.DNS64)
	f.Metrics.Listen = c.Metrics.String()
	f.Web.Listen = c.Web.String()
	if c.ICMP.SourceV6.IsValid() {
		f.ICMP.SourceV6 = c.ICMP.SourceV6.String()
	}
	f.Pool6 = make([]rawPool6, len(c.Pool6))
	for i, p := range c.Pool6 {
		f.Pool6[i] = rawPool6{Prefix: p.String(), PrivateV4: c.PrivateV4[i].String()}
	}
}

// texts returns values in the notation of the file.
func texts[T fmt.Stringer](vs []T) []string {
	l := make([]string, len(vs))
	for i, v := range vs {
		l[i] = v.String()
	}
	return l
}

func (d *document) interface6(r *rawIface6) Interface {
	i := Interface{Name: r.Name, Attach: oneOf(d, "interfaces.v6.attach", r.Attach, AttachNIC, AttachHost), MTU: d.mtu("interfaces.v6.mtu", r.MTU, minMTU6)}
	i.Addr = d.pairAddress(r.Address, i.Attach)
	return i
}

func (d *document) interface4(r *rawIface4) Interface {
	return Interface{
		Name: r.Name, Default: r.Name == defaultWord, Attach: oneOf(d, "interfaces.v4.attach", r.Attach, AttachNIC, AttachHost),
		MTU: d.mtu("interfaces.v4.mtu", r.MTU, minMTU4),
	}
}

// The smallest MTUs: RFC 8200 section 5, RFC 791 section 3.2.
const (
	minMTU6 = 1280
	minMTU4 = 68
	maxMTU  = 65535
)

// within returns n and reports a problem if it is out of bounds.
func (d *document) within(key string, n, lo, hi int) int {
	switch {
	case lo == hi && n != lo:
		d.problem(key, "is %d, but must be %d", n, lo)
	case n < lo || n > hi:
		d.problem(key, "is %d, but must be %d to %d", n, lo, hi)
	}
	return n
}

func (d *document) mtu(key string, n number, lo int) int {
	if n == 0 {
		return 0
	}
	return d.within(key, int(n), lo, maxMTU)
}

// oneOf returns the word and reports a problem if it is not one of the allowed ones.
func oneOf[T ~string](d *document, key, word string, allowed ...T) T {
	if !slices.Contains(allowed, T(word)) {
		names := make([]string, len(allowed))
		for i, a := range allowed {
			names[i] = string(a)
		}
		d.problem(key, "is %q, but must be one of %s", word, strings.Join(names, ", "))
	}
	return T(word)
}

// onOff returns on or off for every notation of a boolean, and any other word unchanged.
func onOff(s string) string {
	switch b, err := parseBool(s); {
	case err != nil:
		return s
	case b:
		return "on"
	default:
		return "off"
	}
}

// longest bounds every duration, to keep them far below the range of the gateway's clock.
const longest = 30 * 24 * time.Hour

func (d *document) duration(key string, v interval, lo time.Duration) time.Duration {
	if t := time.Duration(v); t < lo || t > longest {
		d.problem(key, "is %v, but must be %v to %v", t, lo, longest)
	}
	return time.Duration(v)
}

// short checks a duration for which packets are delayed or a processor polls.
func (d *document) short(key string, v interval) time.Duration {
	const most = 10 * time.Millisecond
	if t := time.Duration(v); t < 0 || t > most {
		d.problem(key, "is %v, but must be 0s to %v", t, most)
	}
	return time.Duration(v)
}

// busyPoll checks the duration of polls. Only the word auto means BusyPollAuto: parseDuration refuses negative durations.
func (d *document) busyPoll(key string, v polling) time.Duration {
	if v == BusyPollAuto {
		return BusyPollAuto
	}
	return d.short(key, interval(v))
}

// pin checks the numbers of the processors. It does not look up which processors the machine has.
func (d *document) pin(cpus []int) []int {
	const most = 1023 // the size of unix.CPUSet
	for i, n := range cpus {
		if n < 0 || n > most {
			d.problem(fmt.Sprintf("interfaces.pin[%d]", i), "is %d, but must be the number of a processor, 0 to %d", n, most)
		}
	}
	return cpus
}

// timeouts checks the lifetimes against the lower bounds of RFC 6146 section 4, RFC 4787 REQ-5, RFC 5382 REQ-5 and
// RFC 5508 REQ-2. A shorter lifetime cuts connections that both ends still use.
func (d *document) timeouts(t rawTimeouts, unsafe bool) Timeouts {
	lifetime := func(name string, v interval, lo time.Duration) time.Duration {
		key := "sessions.timeouts." + name
		switch t := time.Duration(v); {
		case t <= 0:
			d.problem(key, "is %v, but must be more than 0", t)
		case t < lo && !unsafe:
			d.problem(key, "is %v, which is below the %v that the RFCs require; write at least that, or allow_unsafe_timeouts: true in section sessions", t, lo)
		default:
			d.duration(key, v, 0)
		}
		return time.Duration(v)
	}
	return Timeouts{
		UDP:            lifetime("udp", t.UDP, 2*time.Minute),
		UDPDNS:         d.duration("sessions.timeouts.udp_dns", t.UDPDNS, 0),
		ICMP:           lifetime("icmp", t.ICMP, time.Minute),
		TCPEstablished: lifetime("tcp_established", t.TCPEstablished, 2*time.Hour),
		TCPOpening:     lifetime("tcp_opening", t.TCPOpening, 4*time.Minute),
		TCPTransitory:  lifetime("tcp_transitory", t.TCPTransitory, 4*time.Minute),
		TCPSyn:         lifetime("tcp_syn", t.TCPSyn, 6*time.Second),
		Fragment:       lifetime("fragment", t.Fragment, 2*time.Second),
	}
}

// most bounds keys that limit the number of table entries.
const most = 100_000_000

func (d *document) sessions(f *file) Sessions {
	s := f.Sessions
	return Sessions{
		Max:                    d.within("sessions.max", s.Max, 1, most),
		MaxPerClient:           d.within("sessions.max_per_client", s.MaxPerClient, 0, most),
		MaxBindingsPerClient:   d.within("sessions.max_bindings_per_client", max(int(s.MaxBindingsPerClient), 0), 0, most),
		FairShare:              s.MaxBindingsPerClient == shareAuto,
		MaxPerBinding:          d.within("sessions.max_per_binding", s.MaxPerBinding, 0, most),
		MaxInbound:             d.within("sessions.max_inbound", int(s.MaxInbound), 0, most),
		MaxInboundPerClient:    d.within("sessions.max_inbound_per_client", int(s.MaxInboundPerClient), 0, most),
		MaxInboundPerBinding:   d.within("sessions.max_inbound_per_binding", int(s.MaxInboundPerBinding), 0, most),
		NewPerSecond:           d.within("sessions.new_per_second", s.NewPerSecond, 0, 1_000_000),
		ClientPrefixLen:        d.within("sessions.client_prefix_len", s.ClientPrefixLen, 32, 128),
		Timeouts:               d.timeouts(s.Timeouts, s.AllowUnsafeTimeouts || f.AllowUnsafeTimeouts),
		PortHoldDown:           d.duration("sessions.port_hold_down", s.PortHoldDown, 0),
		MaxHeldPorts:           d.within("sessions.max_held_ports", s.MaxHeldPorts, 0, most),
		HoldAfterStart:         s.HoldAfterStart,
		Reclaim:                oneOf(d, "sessions.reclaim", s.Reclaim, reclaimNever, reclaimWhenFull) == reclaimWhenFull,
		InboundRefresh:         s.InboundRefresh,
		InternetIsV6:           oneOf(d, "sessions.internet_side", s.InternetSide, internetIsV4, internetIsV6) == internetIsV6,
		ResetUnknownTCP:        s.ResetUnknownTCP,
		RSTDuringFIN:           s.RSTDuringFIN,
		CheckTCPSequence:       s.CheckTCPSequence,
		Accounting:             s.Accounting,
		MaxStoredSYNs:          d.within("sessions.max_stored_syns", s.MaxStoredSYNs, 0, 1_000_000),
		MaxStoredSYNsPerSource: d.within("sessions.max_stored_syns_per_source", s.MaxStoredSYNsPerSource, 1, 1_000_000),
		MaxStoredSYNsPerPool4:  d.within("sessions.max_stored_syns_per_pool4_address", s.MaxStoredSYNsPerPool4, 0, 1_000_000),
		PortBlockSize:          d.blockSize(s.PortBlockSize),
		PortHashFields:         pool4.Fields(d.within("sessions.port_hash_fields", s.PortHashFields, 0, int(pool4.AllFields))),
	}
}

// blockSize checks that port blocks divide the port range evenly.
func (d *document) blockSize(n int) int {
	if n != 0 && (n < pool4.MinBlock || n > pool4.MaxBlock || n&(n-1) != 0) {
		d.problem("sessions.port_block_size", "is %d, but must be 0 or a power of two from %d to %d", n, pool4.MinBlock, pool4.MaxBlock)
	}
	return n
}

// natEvents checks that port blocks are enabled if only they are logged.
func (d *document) natEvents(f *file) NATEvents {
	const key = "nat_log.events"
	events := oneOf(d, key, f.NATLog.Events, NATEventsNone, NATEventsBindings, NATEventsSessions, NATEventsBlocks)
	if events == NATEventsBlocks && f.Sessions.PortBlockSize == 0 {
		d.problem(key, "is block, but there are no port blocks; set sessions.port_block_size, or write bib")
	}
	return events
}

// fragments checks that the limits allow reassembly. It lowers the default of memory_per_source to a smaller memory.
func (d *document) fragments(f rawFragments) Fragments {
	if f.MemoryPerSource == memoryPerSource {
		f.MemoryPerSource = max(min(f.MemoryPerSource, f.Memory), 64<<10)
	}
	if f.PerSource == 1 {
		d.problem("fragments.per_source", "is 1, but must be 0 (no limit) or 2 to 65536: no datagram has a single fragment")
	}
	return Fragments{
		Memory:          d.within("fragments.memory", f.Memory, 128<<10, min(4<<30, math.MaxInt)),
		MemoryPerSource: d.within("fragments.memory_per_source", f.MemoryPerSource, 64<<10, max(f.Memory, 64<<10)),
		PerSource:       d.within("fragments.per_source", f.PerSource, 0, 65536),
	}
}

// memoryLimit checks that the limit leaves room for a gateway without a session.
func (d *document) memoryLimit(n int) int {
	const least = 64 << 20
	if n != 0 && n < least {
		d.problem("memory_limit", "is %s, but must be auto or at least %s: nat64d needs that much without a session", size(n), size(least))
	}
	return n
}

func (d *document) filtering(f rawFiltering) Filtering {
	return Filtering{
		SourceCheck:      valueOf(d, "filtering.source_check", onOff(f.SourceCheck), SourceCheckOff, SourceCheckLoose, SourceCheckStrict),
		AddressDependent: oneOf(d, "filtering.mode", f.Mode, endpointIndependent, addressDependent) == addressDependent,
		AllowInboundTCP:  f.AllowInboundTCP,
		DropICMPv6Info:   oneOf(d, "filtering.icmpv6_info", f.ICMPv6Info, passInfo, dropInfo) == dropInfo,
	}
}

func (d *document) icmp(i rawICMP) ICMP {
	return ICMP{
		SourceV6:     d.source("icmp.source_v6", i.SourceV6, "IPv6", netip.Addr.Is6),
		SourceV4:     d.source("icmp.source_v4", i.SourceV4, "IPv4", netip.Addr.Is4),
		Errors:       oneOf(d, "icmp.errors", onOff(i.Errors), ICMPErrorsLimited, ICMPErrorsAll, ICMPErrorsOff),
		AnswerDenied: i.AnswerDenied, AnswerFiltered: i.AnswerFiltered, AnswerUnbound: i.AnswerUnbound,
		Rate:          d.within("icmp.rate_per_second", i.RatePerSecond, 0, 1_000_000),
		RateTotal:     d.within("icmp.rate_total", i.RateTotal, 0, 10_000_000),
		RateTooBig:    d.within("icmp.rate_too_big", i.RateTooBig, 0, 10_000_000),
		LiteralSource: oneOf(d, "icmp.error_source", i.ErrorSource, reportingRouter, literalDestination) == literalDestination,
	}
}

func (d *document) translation(t rawXlat) Translation {
	return Translation{
		LowestIPv6MTU:    d.within("translation.lowest_ipv6_mtu", t.LowestIPv6MTU, minMTU6, maxMTU),
		ZeroUDPDrop:      oneOf(d, "translation.zero_udp_checksum", t.ZeroUDPChecksum, computeChecksum, dropChecksum) == dropChecksum,
		CopyTOS:          t.TOS == copied,
		TOS:              t.TOS.value(),
		CopyTrafficClass: t.TrafficClass == copied,
		TrafficClass:     t.TrafficClass.value(),
		TCPMSSClamp:      int(t.TCPMSSClamp),
		MTUPlateaus:      d.plateaus(t.MTUPlateaus),
	}
}

// maxPlateaus bounds the table. Each Fragmentation Needed without MTU searches it.
const maxPlateaus = 64

// plateaus returns the MTUs in descending order, without duplicates and zeros, as Jool does.
func (d *document) plateaus(mtus []int) []int {
	const key = "translation.mtu_plateaus"
	if len(mtus) > maxPlateaus {
		d.problem(key, "has %d values, but must have at most %d", len(mtus), maxPlateaus)
	}
	for i, n := range mtus {
		if n != 0 { // Jool ignores it
			d.within(rowKey(key, i), n, minMTU4, maxMTU)
		}
	}
	sorted := slices.Clone(mtus)
	slices.SortFunc(sorted, func(a, b int) int { return cmp.Compare(b, a) })
	sorted = slices.DeleteFunc(slices.Compact(sorted), func(n int) bool { return n == 0 })
	if len(sorted) == 0 {
		d.problem(key, "has no MTU; write one or more from %d to %d, or leave it out", minMTU4, maxMTU)
	}
	return sorted
}

// source reads the source address of our own ICMP errors.
func (d *document) source(key, text, family string, is func(netip.Addr) bool) netip.Addr {
	if text == "auto" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !is(a) || a.Zone() != "" || a.Is4In6() || !a.IsGlobalUnicast() {
		d.problem(key, "is %q, but must be auto or a unicast %s address", text, family)
		return netip.Addr{}
	}
	return a
}

func (d *document) socket(path string) string {
	// sockaddr_un holds 107 bytes and a zero.
	if !strings.HasPrefix(path, "/") || len(path) > 107 {
		d.problem("api.socket", "is %q, but must be an absolute path of at most 107 bytes", path)
	}
	return path
}

// state checks the keys of section state.
func (d *document) state(s rawState) State {
	if _, written := d.where["state.dir"]; written && (!strings.HasPrefix(s.Dir, "/") || len(s.Dir) > 4095 || strings.ContainsRune(s.Dir, 0)) {
		d.problem("state.dir", "is %q, but must be an absolute path of at most 4095 bytes", s.Dir)
	}
	if p, written := d.where["state.save_sessions_on_exit"]; written {
		d.warnings = append(d.warnings, p.String()+": state.save_sessions_on_exit has no effect: state.save keeps sessions at any time, not only at the exit")
	}
	const longestHandover = time.Hour // meanwhile the host does not answer for pool4
	handover := time.Duration(s.Handover)
	if handover > longestHandover || handover%time.Millisecond != 0 {
		d.problem("state.handover", "is %v, but must be 0s to %v, in whole milliseconds", handover, longestHandover)
	}
	return State{Save: s.Save, Dir: s.Dir, RestoreMaxAge: d.duration("state.restore_max_age", s.RestoreMaxAge, 0), Handover: handover}
}

// checkSystem reports a group or folder that the configuration names and the machine does not have.
func (d *document) checkSystem(f *file) {
	if _, written := d.where["api.group"]; written && f.API.Group != "" {
		if _, err := user.LookupGroup(f.API.Group); err != nil {
			d.problem("api.group", "there is no group %q; make it with groupadd, or leave the key out", f.API.Group)
		}
	}
	if f.API.ReadGroup != "" {
		if _, err := user.LookupGroup(f.API.ReadGroup); err != nil {
			d.problem("api.read_group", "there is no group %q; make it with groupadd, or leave the key out", f.API.ReadGroup)
		}
	}
	if info, err := os.Stat(f.State.Dir); err == nil && !info.IsDir() {
		d.problem("state.dir", "%s is not a folder", f.State.Dir)
	}
}
