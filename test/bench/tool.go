package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
)

// The tools are the ends of the measurements. Each is this program in a separate process, so that it can be pinned to
// a processor and does nothing else. It gets an order in JSON as its argument and prints its result in JSON.
const (
	toolFlood     = "flood"     // UDP packets of many flows, as fast as possible or at a rate
	toolReflect   = "reflect"   // the same back to the flows that arrive
	toolServe     = "serve"     // short TCP connections and a UDP echo
	toolConnect   = "connect"   // short TCP connections, as many as possible
	toolPace      = "pace"      // short TCP connections and queries over UDP at a rate
	toolRoundTrip = "roundtrip" // UDP requests and replies, one at a time
	toolIdle      = "idle"      // the share of a processor that others use
)

// toolThreads is enough for a thread that blocks in the kernel and for the rest of the program. A program pinned to one
// processor gets only one P by default, which the runtime would have to take from the blocked thread each time.
const toolThreads = 4

// runTool runs the tool that the arguments name and prints its result.
func runTool(out io.Writer, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("tool: %d arguments: must be a name and an order", len(args))
	}
	runtime.GOMAXPROCS(toolThreads)
	run, ok := map[string]func([]byte) (any, error){
		toolFlood:     ordered(flood),
		toolReflect:   ordered(reflect),
		toolServe:     ordered(serve),
		toolConnect:   ordered(connect),
		toolPace:      ordered(pace),
		toolRoundTrip: ordered(roundTrip),
		toolIdle:      ordered(idle),
	}[args[0]]
	if !ok {
		return fmt.Errorf("tool: no tool is named %q", args[0])
	}
	result, err := run([]byte(args[1]))
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return json.NewEncoder(out).Encode(result)
}

// ordered converts a function from an order to a result to a tool.
func ordered[O, R any](f func(O) (R, error)) func([]byte) (any, error) {
	return func(b []byte) (any, error) {
		var o O
		if err := json.Unmarshal(b, &o); err != nil {
			return nil, fmt.Errorf("order: %w", err)
		}
		return f(o)
	}
}
