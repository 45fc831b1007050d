package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// format is how a command writes its result.
type format string

const (
	formatTable format = "table"
	formatJSON  format = "json"
	formatCSV   format = "csv"
)

var formats = []string{string(formatTable), string(formatJSON), string(formatCSV)}

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
	name  string         // in csv, as the API calls it
	text  func(T) string // for people
	raw   func(T) string // for csv; nil: as for people
}

// printer writes the entries of a listing one by one; end completes it.
type printer[T any] interface {
	add(T) error
	end() error
}

// newPrinter returns the printer of the format that was asked for.
func newPrinter[T any](a *app, columns []column[T]) printer[T] {
	out := bufio.NewWriter(a.out)
	switch a.format {
	case formatJSON:
		return &jsonPrinter[T]{out: out}
	case formatCSV:
		p := &csvPrinter[T]{out: csv.NewWriter(out), columns: columns}
		if !a.noHeaders {
			p.head()
		}
		return p
	default:
		columns = slices.DeleteFunc(slices.Clone(columns), func(c column[T]) bool { return c.title == "" })
		p := &tablePrinter[T]{buffer: out, out: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0), columns: columns}
		if !a.noHeaders {
			p.head()
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

// alignRows is how many rows of a table are aligned together: all of a listing could be millions.
const alignRows = 1000

type tablePrinter[T any] struct {
	buffer  *bufio.Writer
	out     *tabwriter.Writer
	columns []column[T]
	rows    int
}

func (p *tablePrinter[T]) head() {
	p.line(func(c column[T]) string { return c.title })
}

func (p *tablePrinter[T]) add(e T) error {
	p.line(func(c column[T]) string { return c.text(e) })
	if p.rows++; p.rows%alignRows == 0 {
		return p.end()
	}
	return nil
}

// line writes a line of cells. The tabwriter keeps lines until it is flushed, and then reports errors.
func (p *tablePrinter[T]) line(cell func(column[T]) string) {
	cells := make([]string, len(p.columns))
	for i, c := range p.columns {
		cells[i] = cell(c)
	}
	fmt.Fprintln(p.out, strings.Join(cells, "\t"))
}

func (p *tablePrinter[T]) end() error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	return p.buffer.Flush()
}

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

// jsonPrinter writes one array, an entry a line.
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

// printObject writes one object as JSON.
func printObject(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
