//go:build race

package table

// raceDetector is explained in norace_test.go.
const raceDetector = 1
