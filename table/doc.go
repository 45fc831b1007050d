// Package table holds what the binding and session tables of RFC 6146 section 3.1 are built on: slabs in which
// entries live, an index that finds them without a lock, the epochs that tell when a freed slot may be reused, and
// the coarse clock.
package table
