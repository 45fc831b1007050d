package config

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds a file. The largest sensible one holds a few thousand pool4 rows.
const maxFile = 1 << 20

// document gathers one configuration: what was given, where, and what was wrong with it. Viper holds the settings and
// decides between their sources: flags, the environment, the drop-ins in the order of their names, the file. Three things
// stay with us, since viper does not know them: the line of each key, keys that do not exist, and the text of each
// scalar. YAML's own typing would turn 07000 into 3584 and "yes" into a string, so only the type of its key reads a scalar.
type document struct {
	files    []string
	settings *viper.Viper
	where    map[string]position // by key path
	problems Problems
	broken   bool  // a file cannot be read, so nothing can be said about what it should have said
	system   bool  // the configuration is for this machine, not a text alone
	draft    draft // stands for a file of conf.d, there or not; without a name for none
}

// position is where a key was given: a line of a file, or without one the environment variable or the flag.
type position struct {
	place string
	line  int
}

// String returns the position as messages have it.
func (p position) String() string {
	if p.line == 0 {
		return p.place
	}
	return fmt.Sprintf("%s:%d", p.place, p.line)
}

// delimiter separates the words of a key in viper. Its default would cut an address at its dots, and "::" an IPv6 one; no
// key holds a unit separator.
const delimiter = "\x1f"

// path returns a key as viper takes it.
func path(key string) string { return strings.ReplaceAll(key, ".", delimiter) }

func newDocument() *document {
	return &document{settings: viper.NewWithOptions(viper.KeyDelimiter(delimiter)), where: map[string]position{}}
}

// problem notes what is wrong with the key.
func (d *document) problem(key, format string, args ...any) {
	d.problemAt(d.position(key), key, format, args...)
}

func (d *document) problemAt(p position, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{Place: p.place, Line: p.line, Key: key, Message: fmt.Sprintf(format, args...)})
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

// origins returns where each key was set that has not its default.
func (d *document) origins() map[string]string {
	m := map[string]string{}
	for _, key := range settable() {
		if p, ok := d.where[key]; ok {
			m[key] = p.String()
		}
	}
	return m
}

// supersede notes that a variable or a flag sets the key, instead of what the files say.
func (d *document) supersede(key, place string) {
	maps.DeleteFunc(d.where, func(k string, _ position) bool { return strings.HasPrefix(k, key+"[") })
	d.where[key] = position{place: place}
}

// read adds a file.
func (d *document) read(name string, r io.Reader) {
	d.files = append(d.files, name)
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		d.breaks(position{place: name}, "%v", err)
		return
	}
	if len(text) > maxFile {
		d.breaks(position{place: name}, "larger than %d KiB, which cannot be a configuration", maxFile>>10)
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
		if err := d.settings.MergeConfigMap(v.(map[string]any)); err != nil {
			d.breaks(position{place: name}, "%v", err)
		}
	}
}
