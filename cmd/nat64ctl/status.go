package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newStatus(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "show the state of nat64d",
		Args:  none,
	}
	a.watched(c, func(c *cobra.Command, _ []string) error {
		s, err := a.client().Status(c.Context())
		if err != nil {
			return err
		}
		return printFields(a, s, a.paintState(statusFields(s), s))
	})
	return c
}

// paintState colours the lines that an operator has to see first.
func (a *app) paintState(fs []field, s control.Status) []field {
	colours := map[string]string{"state": green, "not ready": red, "warning": yellow}
	if s.Paused || !s.Ready {
		colours["state"] = red
	}
	for i := range fs {
		if colour := colours[fs[i].Name]; colour != "" {
			fs[i].Value = a.paint(colour, fs[i].Value)
		}
	}
	return fs
}

// field is one line of output for an object.
type field struct{ Name, Value string }

// printFields writes an object: one line per field, the object as JSON, or in csv a row per value with the path of its JSON
// key.
func printFields(a *app, object any, lines []field) error {
	if a.format == formatJSON {
		return printObject(a.out, object)
	}
	columns := []column[field]{
		{"FIELD", "field", func(f field) string { return f.Name }, nil},
		{"VALUE", "value", func(f field) string { return f.Value }, nil},
	}
	if a.format == formatCSV {
		var err error
		if lines, err = fieldsOf(object); err != nil {
			return err
		}
	}
	return printAll(a, columns, lines)
}

// fieldsOf returns the values in an object, each with the path of its JSON key.
func fieldsOf(object any) ([]field, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var tree any
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // counters do not fit a float64
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	return flatten(nil, "", tree), nil
}

// flatten appends the values in a JSON value, each with its path.
func flatten(fs []field, path string, v any) []field {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			fs = flatten(fs, strings.TrimPrefix(path+"."+k, "."), v[k])
		}
	case []any:
		for i, e := range v {
			fs = flatten(fs, fmt.Sprintf("%s.%d", path, i), e)
		}
	default:
		fs = append(fs, field{path, fmt.Sprint(v)})
	}
	return fs
}

// offloadsOf describes how the settings of the NICs are chosen.
func offloadsOf(o control.Offloads) string {
	if o.Reason == "" {
		return o.Mode
	}
	return fmt.Sprintf("%s; %s, %s ago", o.Mode, o.Reason, human(o.Since))
}

func statusFields(s control.Status) []field {
	fs := []field{
		{"version", fmt.Sprintf("%s (%s), pid %d", s.Version.Version, s.Version.Go, s.PID)},
		{"uptime", human(s.Uptime)},
		{"state", stateOf(s)},
	}
	for _, why := range s.NotReady {
		fs = append(fs, field{"not ready", why})
	}
	for _, i := range s.Interfaces {
		up := "up"
		if !i.Up {
			up = "DOWN"
		}
		line := fmt.Sprintf("%s, %s, MTU %d, engine %s", i.Name, up, i.MTU, i.Engine)
		parts := []string{line}
		if i.Bursts {
			parts = append(parts, "bursts")
		}
		parts = append(parts, i.Offloads...)
		fs = append(fs, field{i.Side, strings.Join(append(parts, workersOf(i)...), ", ")})
	}
	if s.Offloads.Mode != "" {
		fs = append(fs, field{"offloads", offloadsOf(s.Offloads)})
	}
	if s.Kept.Dir+s.Kept.Why != "" {
		fs = append(fs, field{"kept", keptOf(&s.Kept)})
	}
	if s.Sandbox.Capabilities != nil {
		fs = append(fs, field{"sandbox", sandboxOf(&s.Sandbox)})
	}
	if s.Memory.Limit != 0 {
		fs = append(fs, field{"memory", memoryOf(&s.Memory)})
	}
	fs = append(fs, field{"pool6", strings.Join(s.Pool6, ", ")})
	for _, p := range s.Protocols {
		fs = append(fs, field{p.Protocol, fmt.Sprintf("%s, %s, %d of %s used on %s", count(p.Bindings, "binding"), count(p.Sessions, "session"),
			p.Pool4Used, count(p.Pool4Ports, "pool4 port"), count(p.Pool4Addresses, "address"))})
	}
	for _, t := range s.Traffic {
		fs = append(fs, field{t.Direction, fmt.Sprintf("%s, %s", count(t.Packets, "packet"), count(t.Bytes, "byte"))})
	}
	fs = append(fs, field{"drops", fmt.Sprintf("%s (nat64ctl stats says why)", count(s.Drops, "packet"))})
	for _, w := range s.Warnings {
		fs = append(fs, field{"warning", w})
	}
	return fs
}

// sandboxOf describes what the daemon may still do.
func sandboxOf(p *control.Sandbox) string {
	landlock := "NO Landlock"
	if p.Landlock > 0 {
		landlock = fmt.Sprintf("Landlock ABI %d", p.Landlock)
	}
	parts := []string{strings.Join(p.Capabilities, " "), "NO no_new_privs", "NO seccomp filter", landlock}
	if p.NoNewPrivs {
		parts[1] = "no_new_privs"
	}
	if p.Seccomp {
		parts[2] = "seccomp filter"
	}
	return strings.Join(parts, ", ")
}

// memoryOf describes the memory in use.
func memoryOf(m *control.Memory) string {
	text := fmt.Sprintf("%d of %d MiB in use", m.Used>>20, m.Limit>>20)
	if m.Auto {
		text += " (memory_limit: auto)"
	}
	if m.Sessions < m.MaxSessions {
		text += fmt.Sprintf(", room for about %d sessions instead of sessions.max: %d", m.Sessions, m.MaxSessions)
	}
	if m.Scarce {
		text += ", SCARCE: new sessions are refused unless another has ended"
	}
	return text
}

// keptOf describes what outlives the daemon, and what the last start has restored.
func keptOf(k *control.Kept) string {
	parts := []string{"in " + k.Dir}
	if k.Dir == "" {
		parts[0] = "OFF: sessions end with the daemon: " + k.Why
	}
	switch {
	case k.Restored:
		parts = append(parts, fmt.Sprintf("%s restored in %s, %s after the last sign of life of %s",
			count(k.Sessions, "session"), k.Took, k.Age, k.From))
	case k.Why != "" && k.Dir != "":
		parts = append(parts, "started empty: "+k.Why)
	}
	for _, why := range slices.Sorted(maps.Keys(k.Refused)) {
		parts = append(parts, fmt.Sprintf("%d refused: %s", k.Refused[why], why))
	}
	if k.Unkept > 0 {
		parts = append(parts, fmt.Sprintf("NO ROOM for %s: sessions there end with the daemon", count(k.Unkept, "slot")))
	}
	return strings.Join(parts, ", ")
}

// workersOf returns where the workers of a side run and why, in one part or none.
func workersOf(i control.Interface) []string {
	if len(i.Workers) == 0 {
		return nil
	}
	var sets []string
	for _, w := range i.Workers {
		if !slices.Contains(sets, w.Processors) {
			sets = append(sets, w.Processors)
		}
	}
	word := "processors"
	if _, err := strconv.Atoi(sets[0]); err == nil && len(sets) == 1 {
		word = "processor"
	}
	return []string{fmt.Sprintf("%s %s (%s)", word, strings.Join(sets, " and "), i.Workers[0].Why)}
}

func stateOf(s control.Status) string {
	switch {
	case s.Paused:
		return "PAUSED (nat64ctl resume)"
	case !s.Ready:
		return "NOT READY"
	default:
		return "ready"
	}
}
