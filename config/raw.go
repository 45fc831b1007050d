package config

import "time"

// file mirrors the layout of a configuration file: the tags are its keys, and the value that fresh returns holds its
// defaults. It is the one list of the keys that exist. Fields of features that this version does not have yet are
// here too, so that their keys are known; features.go says which of their values are accepted.
type file struct {
	Version             int          `yaml:"version"`
	Interfaces          rawIfaces    `yaml:"interfaces"`
	Pool6               []rawPool6   `yaml:"pool6"`
	Pool4               []rawPool4   `yaml:"pool4"`
	Host                rawHost      `yaml:"host"`
	BIB                 []rawBIB     `yaml:"bib"`
	Sessions            rawSessions  `yaml:"sessions"`
	Filtering           rawFiltering `yaml:"filtering"`
	Translation         rawXlat      `yaml:"translation"`
	ICMP                rawICMP      `yaml:"icmp"`
	Logging             rawLogging   `yaml:"logging"`
	NATLog              rawNATLog    `yaml:"nat_log"`
	API                 rawAPI       `yaml:"api"`
	Metrics             rawListen    `yaml:"metrics"`
	Web                 rawListen    `yaml:"web"`
	DNS64               rawDNS64     `yaml:"dns64"`
	RA                  rawRA        `yaml:"ra"`
	HA                  rawHA        `yaml:"ha"`
	State               rawState     `yaml:"state"`
	AllowUnsafeTimeouts bool         `yaml:"allow_unsafe_timeouts"` // also known here, where people look for it first
}

// number is an integer that may be "auto", which is 0.
type number int

type rawIfaces struct {
	V6       rawIface `yaml:"v6"`
	V4       rawIface `yaml:"v4"`
	Engine   string   `yaml:"engine"`
	Workers  number   `yaml:"workers"`
	Offloads string   `yaml:"offloads"`
}

type rawIface struct {
	Name    string `yaml:"name"`
	MTU     number `yaml:"mtu"`
	Gateway string `yaml:"gateway"`
}

type rawPool6 struct {
	Prefix    string `yaml:"prefix"`
	PrivateV4 string `yaml:"private_v4"`
}

type rawPool4 struct {
	Address   string   `yaml:"address"`
	Ports     string   `yaml:"ports"`
	Protocols []string `yaml:"protocols"`
	Match     rawMatch `yaml:"match"`
	AnswerARP string   `yaml:"answer_arp"`
}

type rawMatch struct {
	Source6 []string `yaml:"source6"`
}

type rawHost struct {
	Guard        bool   `yaml:"guard"`
	ReservePorts bool   `yaml:"reserve_ports"`
	Force        bool   `yaml:"force"`
	AnswerARP    string `yaml:"answer_arp"`
}

type rawBIB struct {
	Proto string `yaml:"proto"`
	V6    string `yaml:"v6"`
	V4    string `yaml:"v4"`
}

type rawSessions struct {
	Max                 int         `yaml:"max"`
	MaxPerClient        int         `yaml:"max_per_client"`
	ClientPrefixLen     int         `yaml:"client_prefix_len"`
	Timeouts            rawTimeouts `yaml:"timeouts"`
	PortHoldDown        interval    `yaml:"port_hold_down"`
	AllowUnsafeTimeouts bool        `yaml:"allow_unsafe_timeouts"`
}

// interval is a duration as a file writes it.
type interval time.Duration

type rawTimeouts struct {
	UDP            interval `yaml:"udp"`
	ICMP           interval `yaml:"icmp"`
	TCPEstablished interval `yaml:"tcp_established"`
	TCPTransitory  interval `yaml:"tcp_transitory"`
	TCPSyn         interval `yaml:"tcp_syn"`
	Fragment       interval `yaml:"fragment"`
}

type rawFiltering struct {
	Mode            string `yaml:"mode"`
	AllowInboundTCP bool   `yaml:"allow_inbound_tcp"`
	ICMPv6Info      string `yaml:"icmpv6_info"`
}

type rawXlat struct {
	LowestIPv6MTU   int      `yaml:"lowest_ipv6_mtu"`
	TCPMSSClamp     string   `yaml:"tcp_mss_clamp"`
	ZeroUDPChecksum string   `yaml:"zero_udp_checksum"`
	TOS             string   `yaml:"tos"`
	MTUPlateaus     []string `yaml:"mtu_plateaus"`
}

type rawICMP struct {
	SourceV6      string `yaml:"source_v6"`
	SourceV4      string `yaml:"source_v4"`
	RatePerSecond int    `yaml:"rate_per_second"`
}

type rawLogging struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type rawNATLog struct {
	Events string    `yaml:"events"`
	Sinks  []rawSink `yaml:"sinks"`
}

type rawSink struct {
	Type string `yaml:"type"`
}

type rawAPI struct {
	Socket string `yaml:"socket"`
	Group  string `yaml:"group"`
}

type rawListen struct {
	Listen string `yaml:"listen"`
}

type rawDNS64 struct {
	Enabled   bool     `yaml:"enabled"`
	Listen    []string `yaml:"listen"`
	Upstreams []string `yaml:"upstreams"`
	Clients   []string `yaml:"clients"`
}

type rawRA struct {
	Pref64 bool `yaml:"pref64"`
}

type rawHA struct {
	Mode string `yaml:"mode"`
}

type rawState struct {
	Dir                string   `yaml:"dir"`
	SaveSessionsOnExit bool     `yaml:"save_sessions_on_exit"`
	RestoreMaxAge      interval `yaml:"restore_max_age"`
}

// fresh returns the defaults. Lists are empty: a list in a file replaces nothing, it appends.
func fresh() *file {
	return &file{
		Version:    1,
		Interfaces: rawIfaces{Engine: string(EngineAuto)},
		Host:       rawHost{Guard: true, ReservePorts: true, AnswerARP: string(AnswerARPAuto)},
		Sessions: rawSessions{
			Max: 4_000_000,
			Timeouts: rawTimeouts{
				UDP:            interval(5 * time.Minute),
				ICMP:           interval(time.Minute),
				TCPEstablished: interval(2 * time.Hour),
				TCPTransitory:  interval(4 * time.Minute),
				TCPSyn:         interval(6 * time.Second),
				Fragment:       interval(2 * time.Second),
			},
			PortHoldDown: interval(2 * time.Minute),
		},
		Filtering:   rawFiltering{AllowInboundTCP: true},
		Translation: rawXlat{LowestIPv6MTU: 1280, ZeroUDPChecksum: string(ZeroUDPChecksumCompute), TOS: "copy"},
		ICMP:        rawICMP{SourceV6: "auto", SourceV4: "auto", RatePerSecond: 10},
		Logging:     rawLogging{Level: "info", Format: "auto"},
		API:         rawAPI{Socket: "/run/nat64d/nat64d.sock", Group: "nat64"},
	}
}
