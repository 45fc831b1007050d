// Package table holds the parts of which the binding and session tables of RFC 6146 section 3.1 are built: slabs that
// store the entries, an index that finds them without a lock, epochs that decide when a freed slot can be reused,
// tables of counted rows, and the coarse clock.
package table
