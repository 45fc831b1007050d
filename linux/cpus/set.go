//go:build linux

package cpus

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Set is a set of processors. Sets can be compared with ==. Like unix.CPUSet, it has room for the first 1024 processors.
type Set struct{ bits unix.CPUSet }

// most is the number of processors that a Set has room for.
const most = 1024

// Of returns the set of the given processors.
func Of(processors ...int) (s Set) {
	for _, c := range processors {
		s.bits.Set(c)
	}
	return s
}

// Allowed returns the processors that the calling thread may use: those of its process, unless the thread itself is bound.
func Allowed() (s Set, err error) {
	if err := unix.SchedGetaffinity(0, &s.bits); err != nil {
		return s, fmt.Errorf("processors of this program: %w", err)
	}
	return s, nil
}

// Bind restricts a thread to the set. 0 stands for the calling thread.
func (s Set) Bind(tid int) error { return unix.SchedSetaffinity(tid, &s.bits) }

// Bound returns the processors that a thread may use.
func Bound(tid int) (s Set, err error) {
	err = unix.SchedGetaffinity(tid, &s.bits)
	return s, err
}

// Len returns the number of processors in the set.
func (s Set) Len() int { return s.bits.Count() }

// Empty reports whether the set has no processor.
func (s Set) Empty() bool { return s == Set{} }

// Has reports whether the set contains a processor.
func (s Set) Has(processor int) bool { return s.bits.IsSet(processor) }

// And returns the processors that are in both sets.
func (s Set) And(t Set) Set {
	for i := range s.bits {
		s.bits[i] &= t.bits[i]
	}
	return s
}

// Or returns the processors that are in one of the sets, or in both.
func (s Set) Or(t Set) Set {
	for i := range s.bits {
		s.bits[i] |= t.bits[i]
	}
	return s
}

// Without returns the processors of s that are not in t.
func (s Set) Without(t Set) Set {
	for i := range s.bits {
		s.bits[i] &^= t.bits[i]
	}
	return s
}

// String returns the set in the notation of the kernel, such as "0-3,8".
func (s Set) String() string {
	var b strings.Builder
	for c := 0; c < most; c++ {
		if !s.Has(c) {
			continue
		}
		first := c
		for c+1 < most && s.Has(c+1) {
			c++
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(first))
		if c > first {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(c))
		}
	}
	return b.String()
}

// ParseList parses the notation that String returns, which files such as /proc/irq/N/smp_affinity_list have.
func ParseList(text string) (s Set, err error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, errFirst := strconv.ParseUint(from, 10, 16)
		last, errLast := strconv.ParseUint(to, 10, 16)
		if errFirst != nil || errLast != nil || first > last || last >= most {
			return Set{}, fmt.Errorf("processors %q: must be a list of numbers below %d and of ranges, such as 0-3,8", text, most)
		}
		for c := first; c <= last; c++ {
			s.bits.Set(int(c))
		}
	}
	return s, nil
}

// maskWord is the number of processors of a word in a mask.
const maskWord = 32

// ParseMask parses a mask as the file rps_cpus has it: hexadecimal words of 32 processors, the highest ones first.
func ParseMask(text string) (s Set, err error) {
	words := strings.Split(strings.TrimSpace(text), ",")
	for i, word := range words {
		bits, err := strconv.ParseUint(word, 16, maskWord)
		first := (len(words) - 1 - i) * maskWord
		if err != nil || bits != 0 && first >= most {
			return Set{}, fmt.Errorf("mask of processors %q: must be hexadecimal words of 32 bits, for processors below %d", text, most)
		}
		for c := range maskWord {
			if bits>>c&1 != 0 {
				s.bits.Set(first + c)
			}
		}
	}
	return s, nil
}
