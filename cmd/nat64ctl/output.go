package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// format is an output format.
type format string

const (
	formatTable format = "table"
	formatWide  format = "wide" // a table with more columns
	formatJSON  format = "json"
	formatYAML  format = "yaml" // the values of json, as YAML
	formatCSV   format = "csv"
)

var formats = []string{string(formatTable), string(formatWide), string(formatJSON), string(formatYAML), string(formatCSV)}

// settle resolves formats that are variants of others, so that commands only know table, json and csv.
func (a *app) settle() {
	switch a.format {
	case formatWide:
		a.format, a.wide = formatTable, true
	case formatYAML:
		a.format, a.out = formatJSON, yamlOutput{a.out}
	}
}

// wider returns the columns of a table, with -o wide also the extra ones.
func wider[T any](a *app, columns, extra []column[T]) []column[T] {
	if !a.wide {
		return columns
	}
	return slices.Concat(columns, extra)
}

// String, Set and Type make a format a flag.
func (f *format) String() string { return string(*f) }

func (f *format) Set(s string) error {
	if !slices.Contains(formats, s) {
		return fmt.Errorf("use %s", strings.Join(formats, ", "))
	}
	*f = format(s)
	return nil
}

func (f *format) Type() string { return "format" }

// column is one column of a listing.
type column[T any] struct {
	title string         // in tables; empty: in csv only
	name  string         // in csv, the name in the API; empty: in tables only
	text  func(T) string // for people
	raw   func(T) string // for csv; nil: text
}

// printer writes the entries of a listing; end completes it.
type printer[T any] interface {
	add(T) error
	end() error
}

// newPrinter returns the printer for the selected format.
func newPrinter[T any](a *app, columns []column[T]) printer[T] {
	out := bufio.NewWriter(a.out)
	switch a.format {
	case formatJSON:
		if y, ok := a.out.(yamlOutput); ok {
			return &yamlPrinter[T]{out: y}
		}
		return &jsonPrinter[T]{out: out}
	case formatCSV:
		columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.name == "" })
		p := &csvPrinter[T]{out: csv.NewWriter(out), columns: columns}
		if !a.noHeaders {
			p.head()
		}
		return p
	default:
		columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.title == "" })
		p := &tablePrinter[T]{out: out, columns: columns}
		if !a.noHeaders {
			p.line(func(c column[T]) string { return c.title })
		}
		return p
	}
}

// printAll writes a whole listing.
func printAll[T any](a *app, columns []column[T], entries []T) error {
	p := newPrinter(a, columns)
	for _, e := range entries {
		if err := p.add(e); err != nil {
			return err
		}
	}
	return p.end()
}

// alignRows is the number of rows that determine the widths of the columns. A listing may have millions of rows.
const alignRows = 1000

// gap separates the columns of a table.
const gap = "  "

// tablePrinter aligns columns. A later cell that is wider than its column shifts only the rest of its line.
type tablePrinter[T any] struct {
	out     *bufio.Writer
	columns []column[T]
	widths  []int      // nil before the first flush
	lines   [][]string // not printed yet
}

func (p *tablePrinter[T]) add(e T) error {
	p.line(func(c column[T]) string { return c.text(e) })
	if len(p.lines) < alignRows && p.widths == nil {
		return nil
	}
	return p.flush()
}

// line buffers a line of cells for the next flush.
func (p *tablePrinter[T]) line(cell func(column[T]) string) {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		cells[i] = cell(c)
	}
	p.lines = append(p.lines, cells)
}

// flush prints the buffered lines. The first call sets the widths.
func (p *tablePrinter[T]) flush() error {
	if p.widths == nil {
		p.widths = make([]int, len(p.columns))
		for _, cells := range p.lines {
			for i, c := range cells {
				p.widths[i] = max(p.widths[i], utf8.RuneCountInString(c))
			}
		}
	}
	for _, cells := range p.lines {
		last := len(cells) - 1
		for i, c := range cells[:last] {
			fmt.Fprintf(p.out, "%-*s%s", p.widths[i], c, gap)
		}
		fmt.Fprintln(p.out, cells[last])
	}
	p.lines = p.lines[:0]
	if p.out.Buffered() == 0 {
		return nil
	}
	return p.out.Flush()
}

func (p *tablePrinter[T]) end() error { return p.flush() }

type csvPrinter[T any] struct {
	out     *csv.Writer
	columns []column[T]
}

func (p *csvPrinter[T]) head() {
	var names []string
	for _, c := range p.columns {
		names = append(names, c.name)
	}
	_ = p.out.Write(names) // end reports errors
}

func (p *csvPrinter[T]) add(e T) error {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		if c.raw != nil {
			cells[i] = c.raw(e)
		} else {
			cells[i] = c.text(e)
		}
	}
	return p.out.Write(cells)
}

func (p *csvPrinter[T]) end() error {
	p.out.Flush()
	return p.out.Error()
}

// jsonPrinter writes one array with an entry per line.
type jsonPrinter[T any] struct {
	out  *bufio.Writer
	some bool
}

func (p *jsonPrinter[T]) add(e T) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	before := ",\n "
	if !p.some {
		p.some, before = true, "[\n "
	}
	_, err = p.out.WriteString(before + string(text))
	return err
}

func (p *jsonPrinter[T]) end() error {
	after := "\n]\n"
	if !p.some {
		after = "[]\n"
	}
	if _, err := p.out.WriteString(after); err != nil {
		return err
	}
	return p.out.Flush()
}

// printObject writes one object as JSON, or as YAML.
func printObject(w io.Writer, v any) error {
	if y, ok := w.(yamlOutput); ok {
		return y.print(v)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
