package pool4

import (
	"fmt"
	"slices"
	"strings"

	"nat64d/packet"
)

// rowKey names a row.
type rowKey struct {
	proto packet.Proto
	addr  uint32
}

// Add adds entries to the pool, all of them or, with an error, none. It returns the entries that the pool did not
// contain, and the ranges into which Add has merged entries that overlap or adjoin each other or existing ranges.
func (p *Pool) Add(entries []Entry) (added, merged []Entry, err error) {
	if err := checkAll(entries); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := make(map[rowKey][]span)
	grown := make(map[rowKey][]span) // the spans into which Add has merged entries
	for _, e := range entries {
		k, s := e.key(), e.span()
		set := p.stagedLocked(sets, k)
		if !covers(set, s) {
			added = append(added, e)
		}
		var whole span
		sets[k], whole = plus(set, s)
		if whole != s {
			grown[k], _ = plus(grown[k], whole)
		}
	}
	for k, spans := range grown {
		for _, s := range spans {
			merged = append(merged, k.entry(s))
		}
	}
	slices.SortFunc(merged, Entry.Compare)
	p.commitLocked(sets)
	return added, merged, nil
}

// Remove removes entries from the pool, all of them or, with an error, none, and returns them. An entry may be a part
// of a range. Bindings of these ports stay until the caller ends them, and their ports stay in use.
func (p *Pool) Remove(entries []Entry) (removed []Entry, err error) {
	if err := checkAll(entries); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := make(map[rowKey][]span)
	for _, e := range entries {
		k, s := e.key(), e.span()
		set := p.stagedLocked(sets, k)
		if !covers(set, s) {
			return nil, p.missingLocked(e, k)
		}
		sets[k] = minus(set, s)
		removed = append(removed, e)
	}
	p.commitLocked(sets)
	return removed, nil
}

// Flush removes all entries from the pool.
func (p *Pool) Flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	sets := make(map[rowKey][]span)
	for proto := range p.rows {
		for addr := range p.rows[proto] {
			sets[rowKey{packet.Proto(proto), addr}] = nil
		}
	}
	p.commitLocked(sets)
}

// stagedLocked returns a row's spans as changed so far. The caller holds p.mu.
func (p *Pool) stagedLocked(sets map[rowKey][]span, k rowKey) []span {
	if set, ok := sets[k]; ok {
		return set
	}
	if r := p.rows[k.proto][k.addr]; r != nil {
		return r.spans
	}
	return nil
}

// commitLocked replaces the spans of the rows in sets. The caller holds p.mu.
func (p *Pool) commitLocked(sets map[rowKey][]span) {
	for k, spans := range sets {
		r := p.rows[k.proto][k.addr]
		if r == nil {
			r = &row{used: &p.used[k.proto]}
			p.rows[k.proto][k.addr] = r
		}
		r.setSpans(spans)
	}
	p.view.Store(p.newViewLocked())
	p.version.Add(1)
	for k := range sets {
		if p.rows[k.proto][k.addr].unused() {
			delete(p.rows[k.proto], k.addr)
		}
	}
}

// missingLocked returns the error for an entry that is not in the pool, with the ports that are. The caller holds p.mu.
func (p *Pool) missingLocked(e Entry, k rowKey) error {
	var have []string
	for _, s := range p.stagedLocked(nil, k) {
		have = append(have, k.entry(s).String())
	}
	if len(have) == 0 {
		return fmt.Errorf("pool4: %v is not in pool4, which has no %v ports of %v", e, e.Proto, e.Addr)
	}
	return fmt.Errorf("pool4: %v is not in pool4, which has %s", e, strings.Join(have, ", "))
}

func checkAll(entries []Entry) error {
	for _, e := range entries {
		if err := e.check(); err != nil {
			return err
		}
	}
	return nil
}

func (e Entry) key() rowKey { return rowKey{e.Proto, numOf(e.Addr)} }

func (e Entry) span() span { return span{e.Lo, e.Hi} }

func (k rowKey) entry(s span) Entry {
	return Entry{Addr: addrOf(k.addr), Proto: k.proto, Lo: s.lo, Hi: s.hi}
}
