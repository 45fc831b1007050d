package metrics

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// durationBuckets is the number of bounds: a microsecond, and twice the one before, up to 16 ms.
const durationBuckets = 15

// durations is a histogram of one worker.
type durations struct {
	counts [durationBuckets + 1]atomic.Uint64 // between two bounds; the last one: longer than all bounds
	sum    atomic.Uint64                      // in nanoseconds
}

// Took records how long a batch took.
func (w *Worker) Took(d time.Duration) {
	d = max(d, 1)
	i := bits.Len64(uint64((d - 1) / time.Microsecond)) // the first bound that is no shorter
	add(&w.durations.counts[min(i, durationBuckets)], 1)
	add(&w.durations.sum, uint64(d))
}

// durations returns the histogram of the workers of a direction.
func (s *Set) durations(d Direction) (h Distribution) {
	h.Bounds, h.Within = make([]float64, durationBuckets), make([]uint64, durationBuckets)
	for i := range h.Bounds {
		h.Bounds[i] = (time.Microsecond << i).Seconds()
	}
	for i := range s.workers {
		w := &s.workers[i]
		if w.direction != d {
			continue
		}
		for k := range w.durations.counts {
			n := w.durations.counts[k].Load()
			h.Count += n
			for j := k; j < durationBuckets; j++ {
				h.Within[j] += n
			}
		}
		h.Sum += time.Duration(w.durations.sum.Load()).Seconds()
	}
	return h
}
