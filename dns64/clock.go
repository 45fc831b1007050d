package dns64

import "time"

// epoch is the start of the process, with a monotonic reading.
var epoch = time.Now()

// sinceEpoch returns the nanoseconds from epoch until t. Unlike those since 1970, they do not depend on the time of day: an answer
// in a cache would stay valid for as long as that is set back.
func sinceEpoch(t time.Time) int64 { return int64(t.Sub(epoch)) }
