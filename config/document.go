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

// maxFile bounds the size of a file. The largest useful one has a few thousand rows of pool4.
const maxFile = 1 << 20

// document collects the settings of one configuration, their positions and their problems. Viper holds the settings and
// resolves the precedence of their sources: flags, environment variables, drop-ins in the order of their names, the file.
// The document itself keeps what viper cannot: the line of each key, the detection of unknown keys, and the text of each
// scalar. YAML's own typing would turn 07000 into 3584 and "yes" into a string, so a scalar stays text until the type of its
// key parses it.
type document struct {
	files    []string
	settings *viper.Viper
	where    map[string]position // by key path
	problems Problems
	warnings []string
	broken   bool  // a file cannot be read, so further checks would report its keys as missing
	system   bool  // check groups and folders of this machine, too
	draft    draft // replaces a file of conf.d that may not exist yet; unused without a name
}

// position is the source of a key: a line of a file, or an environment variable or flag without a line.
type position struct {
	place string
	line  int
}

// String returns the position for messages.
func (p position) String() string {
	if p.line == 0 {
		return p.place
	}
	return fmt.Sprintf("%s:%d", p.place, p.line)
}

// delimiter separates the parts of a key in viper. Viper's default, a dot, would split addresses, and the usual alternative
// "::" would split IPv6 addresses. No key contains a unit separator.
const delimiter = "\x1f"

// path returns a key in viper's notation.
func path(key string) string { return strings.ReplaceAll(key, ".", delimiter) }

func newDocument() *document {
	return &document{settings: viper.NewWithOptions(viper.KeyDelimiter(delimiter)), where: map[string]position{}}
}

// problem records a problem with a key.
func (d *document) problem(key, format string, args ...any) {
	d.problemAt(d.position(key), key, format, args...)
}

func (d *document) problemAt(p position, key, format string, args ...any) {
	d.problems = append(d.problems, Problem{Place: p.place, Line: p.line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// breaks records that a file cannot be read.
func (d *document) breaks(p position, format string, args ...any) {
	d.broken = true
	d.problemAt(p, "", format, args...)
}

// position returns the source of the key or, if no source sets it, that of the innermost section around it.
func (d *document) position(key string) position {
	for key != "" {
		if p, ok := d.where[key]; ok {
			return p
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return position{}
}

// origins returns the source of each key that is set.
func (d *document) origins() map[string]string {
	m := map[string]string{}
	for _, key := range settable() {
		if p, ok := d.where[key]; ok {
			m[key] = p.String()
		}
	}
	return m
}

// supersede records that a variable or a flag sets the key and overrides the files.
func (d *document) supersede(key, place string) {
	maps.DeleteFunc(d.where, func(k string, _ position) bool { return strings.HasPrefix(k, key+"[") })
	d.where[key] = position{place: place}
}

// read merges a file into the settings.
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
