package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
)

// Load reads the file at path and then the *.yaml files in the folder conf.d next to it, in the order of their names. A later
// file appends to the rows of pool6, pool4 and bib and replaces all other values. With an empty path Load reads no file.
// Environment variables override files, and flags override variables. The error of a refused configuration is a Problems.
func Load(path string, o Overrides) (*Config, error) { return newDocument().load(path, o) }

// DropIns returns the folder of the files that Load reads after the file at path.
func DropIns(path string) string { return filepath.Join(filepath.Dir(path), "conf.d") }

func (d *document) load(path string, o Overrides) (*Config, error) {
	d.system = true
	if path != "" {
		d.open(path)
		d.openFolder(DropIns(path))
	}
	d.environment(os.Environ())
	return d.finish(o)
}

// Parse reads a single file and no environment variables. Messages contain the name.
func Parse(name string, r io.Reader, o Overrides) (*Config, error) {
	d := newDocument()
	d.read(name, r)
	return d.finish(o)
}

// Default returns the configuration of an empty file, without the names of the interfaces, which have no default.
func Default() *Config {
	return newDocument().check(fresh())
}

func (d *document) open(path string) {
	f, err := os.Open(path)
	if err != nil {
		d.unreadable(path, err)
		return
	}
	defer f.Close()
	d.read(path, f)
}

func (d *document) openFolder(path string) {
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.unreadable(path, err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".yaml") && !strings.HasPrefix(e.Name(), ".") && e.Name() != d.draft.name {
			names = append(names, e.Name())
		}
	}
	if d.draft.name != "" {
		names = append(names, d.draft.name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name == d.draft.name {
			d.read(filepath.Join(path, name), strings.NewReader(d.draft.text))
		} else {
			d.open(filepath.Join(path, name))
		}
	}
}

// unreadable records that a file cannot be opened. It omits the path from the error, since messages begin with it.
func (d *document) unreadable(path string, err error) {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	d.breaks(position{place: path}, "%v", err)
}

// finish applies the flags and turns the settings into a Config.
func (d *document) finish(o Overrides) (*Config, error) {
	if d.broken {
		return nil, d.problems.sorted(d.files)
	}
	d.override(o)
	f := d.decode()
	c := d.check(f)
	if !o.DNS64 {
		d.checkNames(f)
	}
	if d.system {
		d.checkSystem(f)
	}
	if len(d.problems) > 0 {
		return nil, d.problems.sorted(d.files)
	}
	return c, nil
}

// decode applies the settings to the defaults.
func (d *document) decode() *file {
	f := fresh()
	d.decodeErrors(d.settings.UnmarshalExact(f, func(c *mapstructure.DecoderConfig) {
		c.TagName = "yaml"
		c.WeaklyTypedInput = false
		c.MatchName = func(key, field string) bool { return key == field }
		c.DecodeHook = decodeText
	}))
	return f
}

// decodeErrors records each value that could not be parsed, with the key from mapstructure. The errors form a tree, in which
// a section wraps the errors of its keys.
func (d *document) decodeErrors(err error) {
	var inner *mapstructure.DecodeError
	switch e := err.(type) {
	case nil:
	case interface{ Unwrap() []error }:
		for _, sub := range e.Unwrap() {
			d.decodeErrors(sub)
		}
	case *mapstructure.DecodeError:
		if errors.As(e.Unwrap(), &inner) {
			d.decodeErrors(e.Unwrap())
			return
		}
		d.problem(e.Name(), "%v", e.Unwrap())
	default:
		if sub := errors.Unwrap(err); sub != nil {
			d.decodeErrors(sub)
			return
		}
		d.problem("", "%v", err)
	}
}
