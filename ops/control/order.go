package control

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Order is the order of a listing. The zero Order is none.
type Order struct {
	Field      string
	Descending bool
}

// ParseOrder parses the name of a field, after a minus sign for a descending order. A listing refuses unknown names.
func ParseOrder(s string) Order {
	field, descending := strings.CutPrefix(s, "-")
	return Order{field, descending}
}

// String returns the text that ParseOrder reads.
func (o Order) String() string {
	if o.Descending {
		return "-" + o.Field
	}
	return o.Field
}

// maxSorted is the number of entries that nat64d sorts at most: they are in memory at the same time, about 200 bytes each.
const maxSorted = 100_000

// orders are the fields by which a listing of T can be sorted.
type orders[T any] map[string]func(a, b *T) int

// Orders of the listings.
var (
	sessionOrders = orders[Session]{
		"protocol": func(a, b *Session) int { return cmp.Compare(a.Protocol, b.Protocol) },
		"client":   func(a, b *Session) int { return a.Client.Compare(b.Client) },
		"mapped":   func(a, b *Session) int { return a.Mapped.Compare(b.Mapped) },
		"peer":     func(a, b *Session) int { return a.Peer.Compare(b.Peer) },
		"state":    func(a, b *Session) int { return cmp.Compare(a.State, b.State) },
		"expires":  func(a, b *Session) int { return cmp.Compare(a.Expires, b.Expires) },
		"idle":     func(a, b *Session) int { return cmp.Compare(a.Idle, b.Idle) },
	}
	bindingOrders = orders[Binding]{
		"protocol": func(a, b *Binding) int { return cmp.Compare(a.Protocol, b.Protocol) },
		"client":   func(a, b *Binding) int { return a.Client.Compare(b.Client) },
		"mapped":   func(a, b *Binding) int { return a.Mapped.Compare(b.Mapped) },
		"sessions": func(a, b *Binding) int { return cmp.Compare(a.Sessions, b.Sessions) },
	}
)

// SessionOrders and BindingOrders return the fields by which these listings can be sorted.
func SessionOrders() []string { return sessionOrders.names() }

// BindingOrders is like SessionOrders, for bindings.
func BindingOrders() []string { return bindingOrders.names() }

func (o orders[T]) names() []string { return slices.Sorted(maps.Keys(o)) }

// check returns an error if a listing cannot be sorted as a filter asks for.
func (o orders[T]) check(f *Filter) error {
	switch {
	case f.Order.Field == "":
		return nil
	case o[f.Order.Field] == nil:
		return &Error{Message: fmt.Sprintf("cannot sort by %q", f.Order.Field), Hint: "use " + strings.Join(o.names(), ", ") + ", with a minus sign before it for a descending order"}
	case f.Limit > maxSorted:
		return &Error{Message: fmt.Sprintf("cannot sort %d entries", f.Limit), Hint: fmt.Sprintf("use a limit of %d at most; nat64d keeps the sorted entries in memory", maxSorted)}
	}
	return nil
}

// sorted collects the first entries of an order: a heap whose root is the last of them.
type sorted[T any] struct {
	compare func(a, b *T) int
	most    int
	rows    []T
	over    bool // more have come than most
	next    T    // the argument of add: compare takes a pointer, for which each entry would be allocated
}

func newSorted[T any](o orders[T], f *Filter) *sorted[T] {
	compare := o[f.Order.Field]
	s := &sorted[T]{compare: compare, most: cmp.Or(f.Limit, maxSorted)}
	if f.Order.Descending {
		s.compare = func(a, b *T) int { return compare(b, a) }
	}
	return s
}

// add takes an entry, and drops the last one if there are too many.
func (s *sorted[T]) add(row T) error {
	if len(s.rows) < s.most {
		heap.Push(s, row)
		return nil
	}
	s.over, s.next = true, row
	if s.compare(&s.next, &s.rows[0]) < 0 {
		s.rows[0] = row
		heap.Fix(s, 0)
	}
	return nil
}

// each calls yield for the entries in order. Without a limit, it refuses to leave out any.
func (s *sorted[T]) each(limit int, yield func(T) error) error {
	if s.over && limit == 0 {
		return &Error{Message: fmt.Sprintf("more than %d entries match, too many to sort", s.most), Hint: "add a limit for the first ones (--limit 100), or a filter"}
	}
	slices.SortFunc(s.rows, func(a, b T) int { return s.compare(&a, &b) })
	for _, row := range s.rows {
		if err := yield(row); err != nil {
			return err
		}
	}
	return nil
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (s *sorted[T]) Len() int           { return len(s.rows) }
func (s *sorted[T]) Less(i, j int) bool { return s.compare(&s.rows[i], &s.rows[j]) > 0 }
func (s *sorted[T]) Swap(i, j int)      { s.rows[i], s.rows[j] = s.rows[j], s.rows[i] }
func (s *sorted[T]) Push(row any)       { s.rows = append(s.rows, row.(T)) }
func (s *sorted[T]) Pop() any {
	last := s.rows[len(s.rows)-1]
	s.rows = s.rows[:len(s.rows)-1]
	return last
}
