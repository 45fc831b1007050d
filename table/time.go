package table

import "time"

// Tick is the resolution of Time.
const Tick = time.Second / 16

// Time is the coarse clock of the tables, in ticks since the gateway's start. It would wrap after eight years; the
// tables expect a restart before that.
type Time uint32

// TimeOf returns d in ticks, rounded up, so that a lifetime lasts at least d.
func TimeOf(d time.Duration) Time { return Time((d + Tick - 1) / Tick) }

// Duration returns t as a duration since the gateway's start.
func (t Time) Duration() time.Duration { return time.Duration(t) * Tick }
