package metrics

// Event is something that workers count one at a time.
type Event uint8

// The events. ErrorSent6 and ErrorSent4 return those of ICMP errors.
const (
	unreachable6 Event = iota
	tooBig6
	timeExceeded6
	parameterProblem6
	unreachable4
	tooBig4
	timeExceeded4
	parameterProblem4
	ErrorLimited
	ErrorNoSource
	Parked
	Probe
	Reset
	ResetLimited
	Reopened
	Stalled
	LimitNear
	LimitReached
	events
)

// ErrorSent6 returns the event of an ICMPv6 error that the gateway originates, by its type (RFC 4443).
func ErrorSent6(kind uint8) Event {
	switch kind {
	case 2:
		return tooBig6
	case 3:
		return timeExceeded6
	case 4:
		return parameterProblem6
	}
	return unreachable6
}

// ErrorSent4 returns the event of an ICMPv4 error that the gateway originates, by its type and code (RFC 792).
func ErrorSent4(kind, code uint8) Event {
	switch {
	case kind == 3 && code == 4:
		return tooBig4
	case kind == 11:
		return timeExceeded4
	case kind == 12:
		return parameterProblem4
	}
	return unreachable4
}

// eventRows have the row of each event, with the values of its labels.
var eventRows = [events]struct {
	id     ID
	labels []string
}{
	unreachable6:      {ErrorsSent, []string{"v6", "unreachable"}},
	tooBig6:           {ErrorsSent, []string{"v6", "too_big"}},
	timeExceeded6:     {ErrorsSent, []string{"v6", "time_exceeded"}},
	parameterProblem6: {ErrorsSent, []string{"v6", "parameter_problem"}},
	unreachable4:      {ErrorsSent, []string{"v4", "unreachable"}},
	tooBig4:           {ErrorsSent, []string{"v4", "too_big"}},
	timeExceeded4:     {ErrorsSent, []string{"v4", "time_exceeded"}},
	parameterProblem4: {ErrorsSent, []string{"v4", "parameter_problem"}},
	ErrorLimited:      {ErrorsLimited, nil},
	ErrorNoSource:     {ErrorsNoSource, nil},
	Parked:            {Unresolved, nil},
	Probe:             {Probes, nil},
	Reset:             {Resets, nil},
	ResetLimited:      {ResetsLimited, nil},
	Reopened:          {PortsReopened, nil},
	Stalled:           {PortsStalled, nil},
	LimitNear:         {LimitsNear, nil},
	LimitReached:      {LimitsReached, nil},
}
