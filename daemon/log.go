//go:build linux

package daemon

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"reflect"

	"golang.org/x/term"

	"nat64d/config"
	"nat64d/gateway"
	"nat64d/ops/metrics"
	"nat64d/session"
)

// logs are the daemon's log: text for people, JSON for machines.
type logs struct {
	*slog.Logger
	nat   *slog.Logger // events of the tables, which logging.level does not filter
	level *slog.LevelVar
	queue *LogQueue
	tail  *logTail // of Logger

	observer *session.Observer // has the tables' events written to nat; nil in a process without tables
}

// newLogs returns loggers according to the configuration. Output of package log goes there, too: no other code may
// write to standard error, because it could block on a slow reader.
func newLogs(c config.Log, q *LogQueue) *logs {
	l := &logs{level: new(slog.LevelVar), queue: q, tail: new(logTail)}
	l.level.Set(levelOf(c))
	asJSON := c.Format == "json" || c.Format == "auto" && !isTerminal(q.out) && os.Getenv("JOURNAL_STREAM") != ""
	l.Logger = slog.New(newHandler(asJSON, l.level, io.MultiWriter(l.tail, q)))
	l.nat = slog.New(newHandler(asJSON, slog.Level(math.MinInt), q))
	notice := func(lost uint64) []byte {
		var b bytes.Buffer
		slog.New(newHandler(asJSON, nil, &b)).Warn("lines of the log were lost: its reader was too slow or has ended", "lines", lost)
		return b.Bytes()
	}
	q.notice.Store(&notice)
	return l
}

// recordPanics has panics of the goroutine that writes the log recorded.
func (l *logs) recordPanics(p *gateway.Panics) {
	record := p.Aside
	l.queue.panicked.Store(&record)
}

// sample returns the number of lost lines.
func (l *logs) sample() metrics.Sample {
	return metrics.LogEventsDropped.With(l.queue.lost.Load(), "log")
}

// warnings returns problems of the log.
func (l *logs) warnings() []string {
	why := l.queue.trouble()
	if why == "" {
		return nil
	}
	return []string{fmt.Sprintf("the log cannot be written: %s; %d lines were lost so far", why, l.queue.lost.Load())}
}

func newHandler(asJSON bool, level slog.Leveler, w io.Writer) slog.Handler {
	if asJSON {
		return slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inWords})
	}
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})
}

// inWords makes JSON show values like text does. By default it shows an enumeration as a number, a duration as
// nanoseconds, and a type with unexported fields as an empty object.
func inWords(_ []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindAny:
		a.Value = slog.AnyValue(words(reflect.ValueOf(a.Value.Any())))
	}
	return a
}

// words returns a value that JSON shows like fmt prints v.
func words(v reflect.Value) any {
	if !v.IsValid() {
		return nil
	}
	switch value := v.Interface().(type) {
	case json.Marshaler, encoding.TextMarshaler, error:
		return value
	case fmt.Stringer:
		return value.String()
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = words(v.Index(i))
		}
		return list
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return fmt.Sprintf("%+v", v.Interface())
	}
	return v.Interface()
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func levelOf(c config.Log) (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.Level)) // validated by config
	return l
}
