package config

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// walker reads the settings of one file from its YAML nodes, by the layout in type file.
type walker struct {
	*document
	file string
}

// value returns the settings at a node as a map, a list or a string. It returns nil for an empty node, such as a section
// without entries, and after a problem.
func (w walker) value(n *yaml.Node, t reflect.Type, key string) any {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		w.problem(key, "anchors and aliases are not supported; write the value out")
		return nil
	case empty(n):
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
			if empty(v) {
				continue // does not override an earlier file
			}
			w.where[sub] = position{w.file, k.Line}
			if s := w.value(v, f.Type, sub); s != nil {
				m[k.Value] = s
			}
		}
	}
	return m
}

// values returns a list of single values, which replaces the list of an earlier file.
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
			if empty(e) {
				w.problem(row, "is empty")
			}
		}
	}
	return l
}

// list returns the rows of a list after those of earlier files. Viper alone would replace the earlier ones.
func (w walker) list(n *yaml.Node, t reflect.Type, key string) any {
	if n.Kind != yaml.SequenceNode {
		w.problem(key, "is %s, but must be a list", kindName(n))
		return nil
	}
	earlier, _ := w.settings.Get(path(key)).([]any)
	l := slices.Clip(earlier)
	for _, e := range n.Content {
		row := rowKey(key, len(l))
		w.where[row] = position{w.file, e.Line}
		v := w.value(e, t.Elem(), row)
		if empty(e) {
			w.problem(row, "is empty")
		}
		if v != nil {
			l = append(l, v)
		}
	}
	return l
}

// empty reports whether a node has no value.
func empty(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

var rowNumber = regexp.MustCompile(`\[\d+\]`)

// available reports whether this version implements the setting at a node, and records a problem if not.
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

// flat returns a node in one line, in the notation of the features table. Sections and nested lists become "…".
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
