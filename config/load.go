package config

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"

	"nat64d/pool4"
)

// Load reads the file at path and then, in the order of their names, the *.yaml files in the folder conf.d beside it:
// their rows of pool6, pool4 and bib come after those that are there, everything else replaces. An empty path reads no
// file, which leaves the defaults. The error of a refused configuration is a Problems.
func Load(path string, o Overrides) (*Config, error) { return newDocument().load(path, o) }

func (d *document) load(path string, o Overrides) (*Config, error) {
	d.system = true
	if path != "" {
		d.open(path)
		d.openFolder(filepath.Join(filepath.Dir(path), "conf.d"))
	}
	return d.finish(o)
}

// Parse reads a single file, which messages call by that name.
func Parse(name string, r io.Reader, o Overrides) (*Config, error) {
	d := newDocument()
	d.read(name, r)
	return d.finish(o)
}

// Default returns the configuration of an empty file. It lacks the interfaces' names, which have no default.
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

// unreadable notes that a file cannot be opened. The error's own text repeats the path.
func (d *document) unreadable(path string, err error) {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	d.breaks(position{file: path}, "%v", err)
}

// finish turns what was read into a Config.
func (d *document) finish(o Overrides) (*Config, error) {
	if d.broken {
		return nil, d.problems.sorted(d.files)
	}
	f := d.decode()
	d.override(f, o)
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

// decode lays the settings over the defaults. Viper's default key delimiter would cut an address at its dots, and
// "::" an IPv6 one; keys are known words here, none of which holds a unit separator.
func (d *document) decode() *file {
	f := fresh()
	v := viper.NewWithOptions(viper.KeyDelimiter("\x1f"))
	err := v.MergeConfigMap(d.tree)
	err = errors.Join(err, v.UnmarshalExact(f, func(c *mapstructure.DecoderConfig) {
		c.TagName = "yaml"
		c.WeaklyTypedInput = false
		c.MatchName = func(key, field string) bool { return key == field }
		c.DecodeHook = decodeText
	}))
	d.decodeErrors(err)
	return f
}

// decodeErrors notes each value that could not be read, under the key that mapstructure names. Its errors are a tree:
// each section wraps those of its keys.
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

// override replaces what the command line says otherwise.
func (d *document) override(f *file, o Overrides) {
	f.Interfaces.V6.Name = d.overridden("interfaces.v6.name", o.V6, f.Interfaces.V6.Name)
	f.Interfaces.V4.Name = d.overridden("interfaces.v4.name", o.V4, f.Interfaces.V4.Name)
	f.Interfaces.Engine = d.overridden("interfaces.engine", o.Engine, f.Interfaces.Engine)
	f.Interfaces.Offloads = d.overridden("interfaces.offloads", o.Offloads, f.Interfaces.Offloads)
	f.Logging.Level = d.overridden("logging.level", o.LogLevel, f.Logging.Level)
	f.API.Socket = d.overridden("api.socket", o.Socket, f.API.Socket)
	f.DNS64.Enabled = f.DNS64.Enabled || o.DNS64
	f.Host.Force = f.Host.Force || o.Force
	f.Host.ShareInterfaces = f.Host.ShareInterfaces || o.ShareInterfaces
	if len(o.Pool6) > 0 {
		d.forget("pool6")
		f.Pool6 = nil
		for _, p := range o.Pool6 {
			f.Pool6 = append(f.Pool6, rawPool6{Prefix: p})
		}
	}
	if len(o.Pool4) > 0 {
		d.forget("pool4")
		f.Pool4 = nil
		for i, p := range o.Pool4 {
			address, ports := pool4.Split(p)
			if ports == "" && address != p {
				d.problem(rowKey("pool4", i), "%q has no ports behind the address; write %s:7000-8000, or %s for all ports from 1024", p, address, address)
			}
			f.Pool4 = append(f.Pool4, rawPool4{Address: address, Ports: ports})
		}
	}
}

// commandLine is where overrides stand.
var commandLine = position{file: "command line"}

// overridden returns the command line's value or, when that is empty, the file's.
func (d *document) overridden(key, flag, value string) string {
	if flag != "" {
		d.where[key] = commandLine
	}
	return cmp.Or(flag, value)
}

// forget drops the positions of a list's rows: the command line replaces it.
func (d *document) forget(list string) {
	maps.DeleteFunc(d.where, func(key string, _ position) bool { return strings.HasPrefix(key, list+"[") })
	d.where[list] = commandLine
}
