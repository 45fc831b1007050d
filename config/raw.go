package config

import (
	"time"

	"nat64d/pool4"
)

// file mirrors the layout of a configuration file and defines its keys by the tags. Function fresh returns the defaults. The
// keys of features that this version does not implement are included; features.go lists their accepted values.
type file struct {
	Version             int          `yaml:"version"`
	Interfaces          rawIfaces    `yaml:"interfaces"`
	Pool6               []rawPool6   `yaml:"pool6"`
	DenyV4              []string     `yaml:"deny_v4"`
	AllowV4             []string     `yaml:"allow_v4"`
	BypassV6            []string     `yaml:"bypass_v6"`
	AllowV6             []string     `yaml:"allow_v6"`
	Pool4               []rawPool4   `yaml:"pool4"`
	Host                rawHost      `yaml:"host"`
	BIB                 []rawBIB     `yaml:"bib"`
	Sessions            rawSessions  `yaml:"sessions"`
	Fragments           rawFragments `yaml:"fragments"`
	MemoryLimit         size         `yaml:"memory_limit"`
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
	Health              rawHealth    `yaml:"health"`
	AllowUnsafeTimeouts bool         `yaml:"allow_unsafe_timeouts"` // another name of sessions.allow_unsafe_timeouts
}

// Types of single values in addition to bool, int and string. scalar.go has their parsers, which read what String returns.
type (
	number   int           // an integer, or "auto", which is 0
	size     int           // a number of bytes, with K, M or G if need be, or "auto", which is 0
	share    int           // a limit, or "auto", which is the constant shareAuto
	octet    int           // 0 to 255, or "copy", which is the constant copied
	clamp    int           // an MSS, or "off" or "auto", which are MSSOff and MSSAuto
	interval time.Duration // a duration in the notation of the file
	polling  time.Duration // an interval, or "auto", which is BusyPollAuto
	words    []string      // a list that may be written as a single word
)

const copied octet = -1

type rawIfaces struct {
	V6         rawIface6 `yaml:"v6"`
	V4         rawIface4 `yaml:"v4"`
	Engine     string    `yaml:"engine"`
	Workers    number    `yaml:"workers"`
	Pin        []int     `yaml:"pin"`
	Bursts     bool      `yaml:"bursts"`
	Coalesce   bool      `yaml:"coalesce"`
	Moderation interval  `yaml:"moderation"`
	BusyPoll   polling   `yaml:"busy_poll"`
	Offloads   string    `yaml:"offloads"`
}

type rawIface6 struct {
	Name    string `yaml:"name"`
	Attach  string `yaml:"attach"`
	Address string `yaml:"address"`
	MTU     number `yaml:"mtu"`
	Gateway string `yaml:"gateway"`
}

type rawIface4 struct {
	Name       string `yaml:"name"`
	Attach     string `yaml:"attach"`
	Masquerade bool   `yaml:"masquerade"`
	MTU        number `yaml:"mtu"`
	Gateway    string `yaml:"gateway"`
}

type rawPool6 struct {
	Prefix    string `yaml:"prefix"`
	PrivateV4 string `yaml:"private_v4"`
}

type rawPool4 struct {
	Address   string   `yaml:"address"`
	Interface string   `yaml:"interface"`
	Ports     string   `yaml:"ports"`
	Protocols []string `yaml:"protocols"`
	Match     rawMatch `yaml:"match"`
	Weight    number   `yaml:"weight"`
	AnswerARP string   `yaml:"answer_arp"`
}

type rawMatch struct {
	Source6 []string `yaml:"source6"`
}

type rawHost struct {
	Guard           bool   `yaml:"guard"`
	ReservePorts    bool   `yaml:"reserve_ports"`
	Force           bool   `yaml:"force"`
	AnswerARP       string `yaml:"answer_arp"`
	ShareInterfaces bool   `yaml:"share_interfaces"`
	Sandbox         bool   `yaml:"sandbox"`
	Forwarding      string `yaml:"forwarding"`
	ServeUplink     bool   `yaml:"serve_uplink"`
	ServeOwn        bool   `yaml:"serve_own_addresses"`
}

type rawBIB struct {
	Proto string `yaml:"proto"`
	V6    string `yaml:"v6"`
	V4    string `yaml:"v4"`
}

type rawSessions struct {
	Max                    int         `yaml:"max"`
	MaxPerClient           int         `yaml:"max_per_client"`
	MaxBindingsPerClient   share       `yaml:"max_bindings_per_client"`
	MaxPerBinding          int         `yaml:"max_per_binding"`
	MaxInbound             number      `yaml:"max_inbound"`
	MaxInboundPerClient    number      `yaml:"max_inbound_per_client"`
	MaxInboundPerBinding   number      `yaml:"max_inbound_per_binding"`
	NewPerSecond           int         `yaml:"new_per_second"`
	ClientPrefixLen        int         `yaml:"client_prefix_len"`
	Timeouts               rawTimeouts `yaml:"timeouts"`
	PortHoldDown           interval    `yaml:"port_hold_down"`
	MaxHeldPorts           int         `yaml:"max_held_ports"`
	HoldAfterStart         bool        `yaml:"hold_after_start"`
	Reclaim                string      `yaml:"reclaim"`
	InboundRefresh         bool        `yaml:"inbound_refresh"`
	InternetSide           string      `yaml:"internet_side"`
	ResetUnknownTCP        bool        `yaml:"reset_unknown_tcp"`
	RSTDuringFIN           bool        `yaml:"rst_during_fin"`
	CheckTCPSequence       bool        `yaml:"check_tcp_sequence"`
	Accounting             bool        `yaml:"accounting"`
	MaxStoredSYNs          int         `yaml:"max_stored_syns"`
	MaxStoredSYNsPerSource int         `yaml:"max_stored_syns_per_source"`
	MaxStoredSYNsPerPool4  int         `yaml:"max_stored_syns_per_pool4_address"`
	PortHashFields         int         `yaml:"port_hash_fields"`
	PortBlockSize          int         `yaml:"port_block_size"`
	AllowUnsafeTimeouts    bool        `yaml:"allow_unsafe_timeouts"`
}

type rawTimeouts struct {
	UDP            interval `yaml:"udp"`
	UDPDNS         interval `yaml:"udp_dns"`
	ICMP           interval `yaml:"icmp"`
	TCPEstablished interval `yaml:"tcp_established"`
	TCPOpening     interval `yaml:"tcp_opening"`
	TCPTransitory  interval `yaml:"tcp_transitory"`
	TCPSyn         interval `yaml:"tcp_syn"`
	Fragment       interval `yaml:"fragment"`
}

// memoryPerSource is the default of fragments.memory_per_source.
const memoryPerSource = 1 << 20

type rawFragments struct {
	Memory          int `yaml:"memory"`
	MemoryPerSource int `yaml:"memory_per_source"`
	PerSource       int `yaml:"per_source"`
}

type rawFiltering struct {
	Mode            string `yaml:"mode"`
	AllowInboundTCP bool   `yaml:"allow_inbound_tcp"`
	ICMPv6Info      string `yaml:"icmpv6_info"`
	SourceCheck     string `yaml:"source_check"`
}

type rawXlat struct {
	LowestIPv6MTU   int    `yaml:"lowest_ipv6_mtu"`
	TCPMSSClamp     clamp  `yaml:"tcp_mss_clamp"`
	ZeroUDPChecksum string `yaml:"zero_udp_checksum"`
	TOS             octet  `yaml:"tos"`
	TrafficClass    octet  `yaml:"traffic_class"`
	MTUPlateaus     []int  `yaml:"mtu_plateaus"`
}

type rawICMP struct {
	SourceV6       string `yaml:"source_v6"`
	SourceV4       string `yaml:"source_v4"`
	Errors         string `yaml:"errors"`
	AnswerDenied   bool   `yaml:"answer_denied"`
	AnswerFiltered bool   `yaml:"answer_filtered"`
	AnswerUnbound  bool   `yaml:"answer_unbound"`
	RatePerSecond  int    `yaml:"rate_per_second"`
	RateTotal      int    `yaml:"rate_total"`
	RateTooBig     int    `yaml:"rate_too_big"`
	ErrorSource    string `yaml:"error_source"`
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
	Socket    string `yaml:"socket"`
	Group     string `yaml:"group"`
	ReadGroup string `yaml:"read_group"`
}

type rawListen struct {
	Listen string `yaml:"listen"`
}

type rawDNS64 struct {
	Enabled           bool        `yaml:"enabled"`
	Listen            []string    `yaml:"listen"`
	ListenTLS         []string    `yaml:"listen_tls"`
	TLSCertificate    string      `yaml:"tls_certificate"`
	TLSKey            string      `yaml:"tls_key"`
	Upstreams         []string    `yaml:"upstreams"`
	Zones             []string    `yaml:"zones"`
	Race              bool        `yaml:"race"`
	Clients           []string    `yaml:"clients"`
	Open              bool        `yaml:"open"`
	PrefixPolicy      string      `yaml:"prefix_policy"`
	Ranges            []string    `yaml:"ranges"`
	Exclude           words       `yaml:"exclude"`
	Mapped            []string    `yaml:"mapped"`
	TranslateAll      words       `yaml:"translate_all"`
	NeverSynthesize   words       `yaml:"never_synthesize"`
	ARecords          string      `yaml:"a_records"`
	Suffix            string      `yaml:"suffix"`
	OnAAAAError       string      `yaml:"on_aaaa_error"`
	BreakDNSSEC       bool        `yaml:"break_dnssec"`
	UpstreamsValidate bool        `yaml:"upstreams_validate"`
	RecursiveOnly     bool        `yaml:"recursive_only"`
	MaxInFlight       int         `yaml:"max_in_flight"`
	UDPSize           int         `yaml:"udp_size"`
	RatePerSecond     int         `yaml:"rate_per_second"`
	Cache             rawDNSCache `yaml:"cache"`
}

type rawDNSCache struct {
	Size           int      `yaml:"size"`
	MinTTL         interval `yaml:"min_ttl"`
	MaxTTL         interval `yaml:"max_ttl"`
	MaxNegativeTTL interval `yaml:"max_negative_ttl"`
	Prefetch       bool     `yaml:"prefetch"`
	ServeStale     bool     `yaml:"serve_stale"`
}

type rawRA struct {
	Pref64 bool `yaml:"pref64"`
}

type rawHA struct {
	Mode string `yaml:"mode"`
}

type rawState struct {
	Save               bool     `yaml:"save"`
	Dir                string   `yaml:"dir"`
	RestoreMaxAge      interval `yaml:"restore_max_age"`
	Handover           interval `yaml:"handover"`
	SaveSessionsOnExit bool     `yaml:"save_sessions_on_exit"` // ignored: the key of an earlier plan
}

type rawHealth struct {
	Probe []string `yaml:"probe"`
}

// Words for the two values of a boolean.
const (
	endpointIndependent = "endpoint_independent"
	addressDependent    = "address_dependent"
	passInfo            = "pass"
	dropInfo            = "drop"
	reclaimNever        = "never"
	reclaimWhenFull     = "when_full"
	internetIsV4        = "v4"
	internetIsV6        = "v6"
	synthesizeOnError   = "synthesize"
	passA               = "pass"
	emptyA              = "empty"
	servfailOnError     = "servfail"
	reportingRouter     = "router"
	literalDestination  = "literal"
	computeChecksum     = "compute"
	dropChecksum        = "drop"
)

// fresh returns the defaults, with empty lists of rows.
func fresh() *file {
	return &file{
		Version: 1,
		Interfaces: rawIfaces{
			V6: rawIface6{Attach: string(AttachNIC)}, V4: rawIface4{Attach: string(AttachNIC), Masquerade: true},
			Engine: "auto", Pin: []int{}, Coalesce: true, Bursts: true, BusyPoll: BusyPollAuto, Offloads: string(OffloadsAuto),
		},
		Host: rawHost{Guard: true, ReservePorts: true, AnswerARP: "auto", Sandbox: true, Forwarding: string(ForwardingManage)},
		Sessions: rawSessions{
			Max:                  4_000_000,
			ClientPrefixLen:      64,
			MaxBindingsPerClient: shareAuto,
			Timeouts: rawTimeouts{
				UDP:            interval(5 * time.Minute),
				UDPDNS:         interval(10 * time.Second),
				ICMP:           interval(time.Minute),
				TCPEstablished: interval(2 * time.Hour),
				TCPOpening:     interval(4 * time.Minute),
				TCPTransitory:  interval(4 * time.Minute),
				TCPSyn:         interval(6 * time.Second),
				Fragment:       interval(2 * time.Second),
			},
			PortHoldDown:           interval(2 * time.Minute),
			Reclaim:                reclaimNever,
			InboundRefresh:         true,
			InternetSide:           internetIsV4,
			RSTDuringFIN:           true,
			MaxStoredSYNs:          4096,
			MaxStoredSYNsPerSource: 64,
			MaxStoredSYNsPerPool4:  64,
			PortHashFields:         int(pool4.AllFields),
		},
		Fragments: rawFragments{Memory: 16 << 20, MemoryPerSource: memoryPerSource},
		Filtering: rawFiltering{Mode: endpointIndependent, AllowInboundTCP: true, ICMPv6Info: passInfo, SourceCheck: SourceCheckLoose.String()},
		Translation: rawXlat{
			LowestIPv6MTU:   1280,
			TCPMSSClamp:     MSSOff,
			ZeroUDPChecksum: computeChecksum,
			TOS:             copied,
			TrafficClass:    copied,
			MTUPlateaus:     []int{65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68},
		},
		ICMP:    rawICMP{SourceV6: "auto", SourceV4: "auto", Errors: string(ICMPErrorsLimited), AnswerDenied: true, RatePerSecond: 10, RateTotal: 1000, RateTooBig: 5000, ErrorSource: reportingRouter},
		Logging: rawLogging{Level: "info", Format: "auto"},
		NATLog:  rawNATLog{Events: string(NATEventsNone)},
		DNS64: rawDNS64{
			Listen: []string{"[::]:53"}, PrefixPolicy: "first", Exclude: words{"::ffff:0:0/96"}, Suffix: "::", OnAAAAError: synthesizeOnError, ARecords: passA,
			MaxInFlight: 1000, UDPSize: 1232, RatePerSecond: 5000,
			Cache: rawDNSCache{Size: 10_000, MaxTTL: interval(24 * time.Hour), MaxNegativeTTL: interval(time.Hour), Prefetch: true},
		},
		API:   rawAPI{Socket: "/run/nat64d/nat64d.sock", Group: "nat64"},
		State: rawState{Save: true, Dir: DefaultStateDir, RestoreMaxAge: interval(5 * time.Minute)},
	}
}
