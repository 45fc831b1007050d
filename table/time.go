package table

import "time"

// Tick is the resolution of Time.
const Tick = time.Second / 16

// Time is the coarse clock of the tables: ticks since the gateway's start. It wraps after eight years and is not
// prepared for it: a gateway is restarted before that.
type Time uint32

// TimeOf returns d in ticks, rounded up: what must last d lasts at least d.
func TimeOf(d time.Duration) Time { return Time((d + Tick - 1) / Tick) }

// Duration returns t as a duration since the gateway's start.
func (t Time) Duration() time.Duration { return time.Duration(t) * Tick }
