package metrics

import (
	"os"
	"strconv"

	"nat64d/drop"
)

// Line is a whole number of a sample, as nat64ctl stats shows it.
type Line struct {
	Name   string
	Labels map[string]string // nil for one that stands alone
	Value  uint64
	Help   string
	Kind   string
	Type   string
	Unit   string
	Old    string // the name and labels before version 1; several lines may have the same, whose value was their sum
}

// Lines returns the lines of samples. A histogram has one for each bucket and one for the count, as in Prometheus; its sum is no
// whole number.
func Lines(samples []Sample) (list []Line) {
	for i := range samples {
		s := &samples[i]
		row := s.ID.Row()
		switch {
		case row.Fraction():
		case row.Type == Histogram:
			list = s.distribution(list)
		default:
			list = append(list, s.line(row.Name, s.Value, row.Unit))
		}
	}
	return list
}

// distribution appends the lines of a histogram.
func (s *Sample) distribution(list []Line) []Line {
	const unit = "times"
	name := s.ID.Row().Name
	bucket := func(le string, n uint64) {
		l := s.line(name+"_bucket", n, unit)
		l.Labels["le"] = le
		list = append(list, l)
	}
	for i, bound := range s.Durations.Bounds {
		bucket(strconv.FormatFloat(bound, 'g', -1, 64), s.Durations.Within[i])
	}
	bucket("+Inf", s.Durations.Count)
	return append(list, s.line(name+"_count", s.Durations.Count, unit))
}

// line returns a line with the labels of the sample. The help of a drop reason is that of package drop.
func (s *Sample) line(name string, value uint64, unit string) Line {
	row := s.ID.Row()
	l := Line{Name: name, Value: value, Help: row.Help, Kind: row.Kind, Type: row.Type.String(), Unit: unit}
	for i, label := range row.Labels {
		if l.Labels == nil {
			l.Labels = make(map[string]string, len(row.Labels)+1)
		}
		l.Labels[label] = s.Labels[i]
	}
	if r, ok := reasons[l.Labels["reason"]]; ok && (s.ID == Dropped || s.ID == Host) {
		l.Help = r.Help()
	}
	l.Old = os.Expand(row.Old, func(label string) string { return l.Labels[label] })
	return l
}

// reasons are the drop reasons by their label.
var reasons = func() map[string]drop.Reason {
	m := make(map[string]drop.Reason, drop.Count)
	for r := drop.None + 1; r < drop.Count; r++ {
		m[r.String()] = r
	}
	return m
}()
