package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"nat64d/pool6"
)

// Get returns the value of a key in the notation of the file. For a name of Jool it returns the value in Jool's notation.
func (c *Config) Get(name string) (string, error) {
	k, a, err := find(name)
	if err != nil {
		return "", err
	}
	return a.show(text(c.source.at(k.Name))), nil
}

// Origin returns the source of a key's value: the line of a file, an environment variable, a flag, "nat64ctl" after With, or
// "default". The name may be Jool's.
func (c *Config) Origin(name string) (string, error) {
	k, _, err := find(name)
	return cmp.Or(c.origin[k.Name], "default"), err
}

// With returns a copy of the configuration with another value for one key. The value is in the notation of the file, with
// commas between the values of a list, or in Jool's notation if the name is Jool's. With applies the same checks as to a
// file, and its error is then a Problems. It refuses a key that needs a restart.
func (c *Config) With(name, value string) (*Config, error) {
	k, a, err := find(name)
	if err != nil {
		return nil, err
	}
	if !k.Live {
		return nil, fmt.Errorf("%s cannot change while nat64d runs; write it into the configuration file and restart nat64d", k.Name)
	}
	f := *c.source
	field := f.at(k.Name)
	value, err = a.read(value, text(field))
	if err == nil {
		err = set(field, value)
	}
	if err != nil {
		return nil, Problems{{Key: name, Message: err.Error()}}
	}
	return c.recheck(&f, k.Name)
}

// recheck checks a file again after the value of a key has changed.
func (c *Config) recheck(f *file, key string) (*Config, error) {
	d := newDocument()
	next := d.check(f)
	if len(d.problems) > 0 {
		return nil, d.problems
	}
	maps.Copy(next.origin, c.origin)
	next.origin[key] = "nat64ctl"
	next.Warnings = c.Warnings
	return next, nil
}

// WithPool6 returns a copy of the configuration with one more prefix, after the others.
func (c *Config) WithPool6(prefix string) (*Config, error) {
	f := *c.source
	f.Pool6 = append(slices.Clone(f.Pool6), rawPool6{Prefix: prefix})
	return c.recheck(&f, "pool6")
}

// WithoutPool6 returns a copy of the configuration without one of its prefixes. It refuses to remove the last prefix, because
// nothing would be translated without one.
func (c *Config) WithoutPool6(prefix string) (*Config, error) {
	p, err := pool6.ParsePrefix(prefix)
	if err != nil {
		return nil, err
	}
	i := slices.Index(c.Pool6, p)
	switch {
	case i < 0:
		return nil, fmt.Errorf("%v is not in pool6, which has %s", p, strings.Trim(fmt.Sprint(c.Pool6), "[]"))
	case len(c.Pool6) == 1:
		return nil, fmt.Errorf("%v is the only prefix of pool6; add another one first, or stop translating with nat64ctl pause", p)
	}
	f := *c.source
	f.Pool6 = slices.Delete(slices.Clone(f.Pool6), i, i+1)
	return c.recheck(&f, "pool6")
}

// Change is a difference between two configurations.
type Change struct {
	Name     string // of a Key, or pool6, pool4 or bib
	Old, New string // the values; for a list of rows, the rows that were removed and those that were added
	Live     bool   // takes effect without a restart
}

// Diff returns the differences between two configurations in the order of Keys, followed by the lists of rows.
func Diff(old, next *Config) []Change {
	var changes []Change
	for _, k := range keys {
		a, b := text(old.source.at(k.Name)), text(next.source.at(k.Name))
		if a != b {
			changes = append(changes, Change{k.Name, a, b, k.Live})
		}
	}
	for _, list := range []struct {
		name string
		rows func(*Config) []string
	}{{"pool6", (*Config).pool6Rows}, {"pool4", (*Config).pool4Rows}, {"bib", (*Config).bindingRows}} {
		a, b := list.rows(old), list.rows(next)
		gone, come := without(a, b), without(b, a)
		if len(gone)+len(come) > 0 {
			changes = append(changes, Change{list.name, strings.Join(gone, ", "), strings.Join(come, ", "), true})
		}
	}
	return changes
}

func (c *Config) pool6Rows() (rows []string) {
	for i, p := range c.Pool6 {
		rows = append(rows, fmt.Sprintf("%v private_v4 %s", p, c.PrivateV4[i]))
	}
	return rows
}

func (c *Config) pool4Rows() (rows []string) {
	for _, r := range c.source.Pool4 {
		row := r.Address
		if r.Interface != "" {
			row = "interface:" + r.Interface
		}
		if r.Ports != "" {
			row += " " + r.Ports
		}
		if r.Protocols != nil {
			row += " " + strings.Join(r.Protocols, "+")
		}
		if len(r.Match.Source6) > 0 {
			row += " for " + strings.Join(r.Match.Source6, "+")
		}
		if r.Weight != 0 {
			row += " weight " + r.Weight.String()
		}
		rows = append(rows, row)
	}
	return rows
}

func (c *Config) bindingRows() (rows []string) {
	for _, b := range c.Bindings {
		rows = append(rows, b.String())
	}
	return rows
}

// without returns the rows of a that are not in b.
func without(a, b []string) []string {
	has := make(map[string]bool, len(b))
	for _, row := range b {
		has[row] = true
	}
	return slices.DeleteFunc(slices.Clone(a), func(row string) bool { return has[row] })
}
