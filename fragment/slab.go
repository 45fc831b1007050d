package fragment

// slab stores entries by number. take never returns number 0.
type slab[T any] struct {
	entries []T
	free    []uint32
}

// at returns an entry; the pointer is valid until the next take.
func (s *slab[T]) at(n uint32) *T { return &s.entries[n] }

// take returns the number of a zero entry.
func (s *slab[T]) take() uint32 {
	if n := len(s.free); n > 0 {
		e := s.free[n-1]
		s.free = s.free[:n-1]
		return e
	}
	var zero T
	if len(s.entries) == 0 {
		s.entries = append(s.entries, zero)
	}
	s.entries = append(s.entries, zero)
	return uint32(len(s.entries) - 1)
}

// put frees an entry.
func (s *slab[T]) put(n uint32) {
	var zero T
	s.entries[n] = zero
	s.free = append(s.free, n)
}
