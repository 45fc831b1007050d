package metrics

import "fmt"

// ID identifies a row of the catalogue.
type ID uint8

// The rows, in the order of the documentation.
const (
	Packets ID = iota
	Bytes
	Dropped
	Host
	ArrivedFrames
	ForwardedFrames
	WaitingFrames
	ReceivedFrames
	ReceivedPackets
	MergedDatagrams
	AdjacentDatagrams
	RingDrops
	TransmitErrors
	Unresolved
	Fragments
	ChecksumErrors

	ErrorsSent
	ErrorsLimited
	ErrorsNoSource
	Probes
	Resets
	ResetsLimited

	Sessions
	SessionsLimit
	SessionsCreated
	SessionsClosed
	SessionsReclaimed
	InboundSessions
	InboundLimit
	InboundEvicted
	StoredSYNs
	StoredSYNsLimit
	Bindings
	Clients
	ClientLimitHits

	Pool4Ports
	Pool4Used
	Pool4Held
	Pool4Free
	Pool4Failures
	Pool4RestShortened
	ARPConflicts

	WorkerBusy
	WorkerBusySeconds
	TranslateDuration
	InterfaceUp
	InterfaceMTU
	OffloadEnabled
	OffloadsSwitched

	Ready
	CheckOK
	PausedState
	Warnings
	LimitsNear
	LimitsReached
	PortsReopened
	PortsStalled
	PanicsSurvived
	GuardRepairs
	LogEventsDropped
	MemoryUsed
	MemoryLimit
	StateKept
	StateRestored
	StateRefused
	StateUnkept
	ReloadOK
	ReloadTime
	BuildInfo

	DNS64Queries
	DNS64CacheHits
	DNS64CacheMisses
	DNS64Synthesized
	DNS64Prefetches
	DNS64Stale
	DNS64Truncated
	DNS64Denied
	DNS64RateLimited
	DNS64Busy
	DNS64Panics
	DNS64UpstreamQueries
	DNS64UpstreamFailures
	DNS64UpstreamUp
	DNS64UpstreamDuration

	IDs // how many there are
)

// Type is how the value of a row develops.
type Type uint8

// The types, as Prometheus has them.
const (
	Counter   Type = iota // only grows, and begins at 0 when nat64d starts
	Gauge                 // goes up and down
	Histogram             // counts of observations by their size
)

// String returns the name of the type in Prometheus.
func (t Type) String() string { return [...]string{"counter", "gauge", "histogram"}[t] }

// Row is what the catalogue has of a metric.
type Row struct {
	Name   string // for Prometheus and nat64ctl stats
	Type   Type
	Kind   string // packets, drop, error, table, gateway or dns64
	Unit   string // the counted items, in the plural; seconds and ratio are fractions
	Labels []string
	Help   string // a phrase for the operator
	Old    string // the name in nat64ctl stats before version 1, with $label for the value of a label; empty: it is new
}

// Fraction reports whether the value is a fraction. Such a row has no line in nat64ctl stats, whose values are whole numbers.
func (r *Row) Fraction() bool {
	return r.Type != Histogram && (r.Unit == "seconds" || r.Unit == "ratio")
}

// Row returns the row of the catalogue.
func (id ID) Row() *Row { return &catalogue[id] }

// Sample is the value of a row at a moment, for one combination of labels.
type Sample struct {
	ID        ID
	Labels    []string      // values, in the order of the row's labels
	Value     uint64        // a whole number
	Fraction  float64       // instead of Value, if the row has fractions
	Durations *Distribution // instead of Value, of a histogram
}

// Distribution is a histogram of durations.
type Distribution struct {
	Bounds []float64 // in seconds, ascending; infinity is left out
	Within []uint64  // for each bound, the number of durations that are no longer
	Count  uint64    // of all
	Sum    float64   // of all, in seconds
}

// With returns a sample with a whole number, and with a value for each label.
func (id ID) With(value uint64, labels ...string) Sample {
	return Sample{ID: id, Value: value, Labels: id.checked(labels)}
}

// Of returns a sample with a fraction.
func (id ID) Of(value float64, labels ...string) Sample {
	return Sample{ID: id, Fraction: value, Labels: id.checked(labels)}
}

// Is returns a sample that is 1 if something is the case, and 0 otherwise.
func (id ID) Is(yes bool, labels ...string) Sample {
	if yes {
		return id.With(1, labels...)
	}
	return id.With(0, labels...)
}

// Over returns the sample of a histogram.
func (id ID) Over(d Distribution, labels ...string) Sample {
	return Sample{ID: id, Durations: &d, Labels: id.checked(labels)}
}

// checked returns the values of labels. Their number is known when the code is written.
func (id ID) checked(labels []string) []string {
	if row := id.Row(); len(labels) != len(row.Labels) {
		panic(fmt.Sprintf("metrics: %s has the labels %v, got the values %v", row.Name, row.Labels, labels))
	}
	return labels
}
