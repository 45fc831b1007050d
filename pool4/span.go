package pool4

import "slices"

// span is a range of ports, both ends included. A set of ports is a sorted slice of spans that neither overlap nor
// adjoin. The slice is immutable; a change makes a new one.
type span struct{ lo, hi uint16 }

// touches reports whether two spans overlap or adjoin.
func (s span) touches(t span) bool { return int(s.lo) <= int(t.hi)+1 && int(t.lo) <= int(s.hi)+1 }

// plus returns the union of set and s, and the span in it that contains s.
func plus(set []span, s span) (result []span, whole span) {
	whole = s
	for _, t := range set {
		if t.touches(s) {
			whole = span{min(whole.lo, t.lo), max(whole.hi, t.hi)}
		} else {
			result = append(result, t)
		}
	}
	i, _ := slices.BinarySearchFunc(result, whole, compareSpans)
	return slices.Insert(result, i, whole), whole
}

// minus returns set without s.
func minus(set []span, s span) (result []span) {
	for _, t := range set {
		if t.lo < s.lo {
			result = append(result, span{t.lo, min(t.hi, s.lo-1)})
		}
		if t.hi > s.hi {
			result = append(result, span{max(t.lo, s.hi+1), t.hi})
		}
	}
	return result
}

// covers reports whether all of s is in set.
func covers(set []span, s span) bool {
	for _, t := range set {
		if t.lo <= s.lo && s.hi <= t.hi {
			return true
		}
	}
	return false
}

// size returns the number of ports in set.
func size(set []span) (n int) {
	for _, t := range set {
		n += int(t.hi) - int(t.lo) + 1
	}
	return n
}

func compareSpans(s, t span) int { return int(s.lo) - int(t.lo) }
