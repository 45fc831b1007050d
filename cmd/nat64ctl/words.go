package main

import (
	"fmt"
	"strings"
	"time"

	"nat64d/ops/control"
)

// human returns a duration in its two largest units.
func human(s control.Seconds) string {
	d := time.Duration(s).Round(time.Second)
	day := 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

// seconds returns a duration in seconds for scripts.
func seconds(s control.Seconds) string {
	return fmt.Sprintf("%.3f", time.Duration(s).Seconds())
}

// count returns a number with its noun.
func count[N int | uint64](n N, thing string) string {
	plural := "s"
	switch {
	case n == 1:
		plural = ""
	case strings.HasSuffix(thing, "s"):
		plural = "es"
	}
	return fmt.Sprintf("%d %s%s", n, thing, plural)
}

// past returns the past participle of a verb.
func past(verb string) string { return strings.TrimSuffix(verb, "e") + "ed" }

// and joins words with commas and "and".
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
