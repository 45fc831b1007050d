package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a file. The largest sensible one holds a few thousand pool4 rows.
const maxFile = 1 << 20

// document gathers the files of one configuration: their settings as nested maps, where each of them stood, and what
// was wrong. Every scalar stays the text that the file has, and only the type of its key reads it. YAML's own typing
// would turn 07000 into 3584 and "yes" into a string.
type document struct {
	files    []string
	tree     map[string]any
	where    map[string]position // by key path
	rows     map[string]int      // how many rows a list has so far, by key path: the lists of drop-ins append
	problems Problems
	broken   bool  // a file cannot be read, so nothing can be said about what it should have said
	system   bool  // the configuration is for this machine, not a text alone
	draft    draft // stands for a file of conf.d, there or not; without a name for none
}

// position is where a key stands.
type position struct {
	file string
	line int
}

func newDocument() *document {
	return &document{tree: map[string]any{}, where: map[string]position{}, rows: map[string]int{}}
}

// problem notes what is wrong with the key.
func (d *document) problem(key, format string, args ...any) {
	d.problemAt(d.position(key), key, format, args...)
}

func (d *document) problemAt(p position, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: p.file, Line: p.line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// breaks notes why a file cannot be read.
func (d *document) breaks(p position, format string, args ...any) {
	d.broken = true
	d.problemAt(p, "", format, args...)
}

// position returns where the key stands or, when no file has it, the nearest section around it that one has.
func (d *document) position(key string) position {
	for key != "" {
		if p, ok := d.where[key]; ok {
			return p
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return position{} // the first line of a file would say nothing
}

// read adds a file.
func (d *document) read(name string, r io.Reader) {
	d.files = append(d.files, name)
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		d.breaks(position{file: name}, "%v", err)
		return
	}
	if len(text) > maxFile {
		d.breaks(position{file: name}, "larger than %d KiB, which cannot be a configuration", maxFile>>10)
		return
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var root, second yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF): // an empty file, or comments only
		return
	case err != nil:
		line, message := syntaxError(err, string(text))
		d.breaks(position{name, line}, "%s", message)
		return
	}
	switch err := dec.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		line, message := syntaxError(err, string(text))
		d.breaks(position{name, line}, "%s", message)
		return
	default:
		d.breaks(position{name, second.Line}, "a second document begins; one file is one document, and conf.d takes more files")
		return
	}
	if k := root.Content[0].Kind; k == yaml.SequenceNode || k == yaml.ScalarNode && root.Content[0].ShortTag() != "!!null" {
		d.breaks(position{name, root.Content[0].Line}, "is %s, but must be sections such as interfaces: and pool4:", kindName(root.Content[0]))
		return
	}
	w := walker{d, name}
	if v := w.value(root.Content[0], reflect.TypeFor[file](), ""); v != nil {
		merge(d.tree, v.(map[string]any))
	}
}

// merge adds the settings of src to dst: lists of rows append, the rest replaces.
func merge(dst, src map[string]any) {
	for k, v := range src {
		switch v := v.(type) {
		case map[string]any:
			if sub, ok := dst[k].(map[string]any); ok {
				merge(sub, v)
				continue
			}
			dst[k] = v
		case []any:
			rows, _ := dst[k].([]any)
			dst[k] = append(rows, v...)
		default:
			dst[k] = v
		}
	}
}

// walker takes the settings of one file out of its nodes, as the layout in type file prescribes.
type walker struct {
	*document
	file string
}

// value returns the settings at a node as a map, a list or a string; nil when it has none, as a section without
// entries has, which leaves the defaults standing.
func (w walker) value(n *yaml.Node, t reflect.Type, key string) any {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.problem(key, "anchors and aliases are not supported; write the value out")
		return nil
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return nil
	case !w.available(n, key):
		return nil
	}
	switch t.Kind() {
	case reflect.Struct:
		return w.section(n, t, key)
	case reflect.Slice:
		if t.Elem().Kind() != reflect.Struct {
			return w.values(n, t, key)
		}
		return w.list(n, t, key)
	default:
		if n.Kind != yaml.ScalarNode {
			w.problem(key, "is %s, but must be a single value", kindName(n))
			return nil
		}
		return n.Value
	}
}

func (w walker) section(n *yaml.Node, t reflect.Type, key string) any {
	if n.Kind != yaml.MappingNode {
		w.problem(key, "is %s, but must be a section with the keys %s", kindName(n), strings.Join(keysOf(t), ", "))
		return nil
	}
	m := map[string]any{}
	seen := map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		sub := join(key, k.Value)
		f, known := fieldOf(t, k.Value)
		switch first, twice := seen[k.Value]; {
		case !known:
			w.problemAt(position{w.file, k.Line}, sub, "%s", unknown(t, k.Value))
		case twice:
			w.problemAt(position{w.file, k.Line}, sub, "given twice, first in line %d", first)
		default:
			seen[k.Value] = k.Line
			w.where[sub] = position{w.file, k.Line}
			if s := w.value(v, f.Type, sub); s != nil {
				m[k.Value] = s
			}
		}
	}
	return m
}

// values returns a list of single values. It replaces the one of an earlier file, unlike a list of rows.
func (w walker) values(n *yaml.Node, t reflect.Type, key string) any {
	if n.Kind == yaml.ScalarNode && t == reflect.TypeFor[words]() {
		return []string{n.Value}
	}
	if n.Kind != yaml.SequenceNode {
		w.problem(key, "is %s, but must be a list", kindName(n))
		return nil
	}
	l := make([]string, 0, len(n.Content))
	for i, e := range n.Content {
		row := rowKey(key, i)
		w.where[row] = position{w.file, e.Line}
		switch v := w.value(e, t.Elem(), row).(type) {
		case string:
			l = append(l, v)
		case nil:
			if e.ShortTag() == "!!null" {
				w.problem(row, "is empty")
			}
		}
	}
	return l
}

// list returns the rows of a list.
func (w walker) list(n *yaml.Node, t reflect.Type, key string) any {
	if n.Kind != yaml.SequenceNode {
		w.problem(key, "is %s, but must be a list", kindName(n))
		return nil
	}
	l := make([]any, 0, len(n.Content))
	for _, e := range n.Content {
		row := rowKey(key, w.rows[key])
		w.rows[key]++
		w.where[row] = position{w.file, e.Line}
		v := w.value(e, t.Elem(), row)
		if v == nil && e.ShortTag() == "!!null" {
			w.problem(row, "is empty")
		}
		if v != nil {
			l = append(l, v)
		}
	}
	return l
}

var rowNumber = regexp.MustCompile(`\[\d+\]`)

// available reports whether this version can do what the node asks for, and notes a problem when it cannot.
func (w walker) available(n *yaml.Node, key string) bool {
	general := rowNumber.ReplaceAllString(key, "[]")
	i := slices.IndexFunc(features, func(f feature) bool { return f.key == general })
	if i < 0 || slices.Contains(features[i].off, flat(n)) {
		return true
	}
	off := features[i].off[0]
	if off == "" {
		off = `""`
	}
	w.problem(key, "%s is not available in this version; leave it out or write %s", flat(n), off)
	return false
}

// flat writes a node in one line, as the features table does. Sections and what is in lists of lists show as "…".
func flat(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return n.Value
	case yaml.SequenceNode:
		var l []string
		for _, e := range n.Content {
			if e.Kind == yaml.ScalarNode {
				l = append(l, e.Value)
			} else {
				l = append(l, "…")
			}
		}
		return "[" + strings.Join(l, ", ") + "]"
	default:
		return "…"
	}
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a section"
	case yaml.SequenceNode:
		return "a list"
	default:
		return fmt.Sprintf("the single value %q", n.Value)
	}
}
