//go:build !race

package table

// raceDetector is 1 with the race detector, under which the tables are in memory of Go and an atomic load takes fifty times as
// long. Some tests are smaller then.
const raceDetector = 0
