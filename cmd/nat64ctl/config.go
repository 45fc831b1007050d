package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nat64d/ops/control"
)

func newConfig(a *app) *cobra.Command {
	c := group("config", "show and change the configuration")
	c.AddCommand(newConfigGet(a), newConfigSet(a, "set", "  nat64ctl config set sessions.timeouts.udp 10m --persist"))
	return c
}

var (
	key      = []string{"KEY"}
	keyValue = []string{"KEY", "VALUE"}
)

func newConfigGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "get [KEY]",
		Short: "show all keys, or one with its meaning",
		Long: `Show all keys of the configuration, or one with its default and its meaning. KEY is as in the configuration file, such
as sessions.timeouts.udp, or as in Jool, such as udp-timeout. The origin of a value is a line of a file, an
environment variable, a flag, nat64ctl or the default.`,
		Args:              arguments(nil, key),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			keys, err := a.client().GetConfig(c.Context(), strings.Join(args, ""))
			switch {
			case err != nil:
				return err
			case len(args) == 1 && len(keys) == 1:
				return printFields(a, keys[0], keyFields(keys[0]))
			}
			return printAll(a, keyColumns, keys)
		},
	}
}

var keyColumns = []column[control.ConfigKey]{
	{"KEY", "name", func(k control.ConfigKey) string { return k.Name }, nil},
	{"VALUE", "value", func(k control.ConfigKey) string { return brief(k.Value) }, func(k control.ConfigKey) string { return k.Value }},
	{"DEFAULT", "default", differing, func(k control.ConfigKey) string { return k.Default }},
	{"CHANGES", "live", effect, func(k control.ConfigKey) string { return fmt.Sprint(k.Live) }},
	{"", "jool", joolNames, nil},
	{"", "help", func(k control.ConfigKey) string { return k.Help }, nil},
}

// shown makes an empty value visible in a table.
func shown(value string) string {
	if value == "" {
		return `""`
	}
	return value
}

// briefLength keeps a table of all keys within 80 columns.
const briefLength = 20

// brief returns a value for a table of all keys, and cuts a long one.
func brief(value string) string {
	if len(value) > briefLength {
		return value[:briefLength-1] + "…"
	}
	return shown(value)
}

// differing returns the default if the value differs from it, so that changed keys stand out.
func differing(k control.ConfigKey) string {
	if k.Value == k.Default {
		return "-"
	}
	return brief(k.Default)
}

// effect returns when a change takes effect.
func effect(k control.ConfigKey) string {
	if k.Live {
		return "at once"
	}
	return "restart"
}

func joolNames(k control.ConfigKey) string {
	var names []string
	for _, j := range k.Jool {
		names = append(names, j.Name)
	}
	return strings.Join(names, " ")
}

func keyFields(k control.ConfigKey) []field {
	fs := []field{{"key", k.Name}, {"value", shown(k.Value)}, {"default", shown(k.Default)}}
	if k.Origin != "" { // older versions of nat64d do not send it
		fs = append(fs, field{"origin", k.Origin})
	}
	fs = append(fs, field{"changes", effect(k)})
	for _, j := range k.Jool {
		fs = append(fs, field{"jool", j.Name + " " + j.Value})
	}
	return append(fs, field{"meaning", k.Help})
}

// newConfigSet returns the command that changes a key. Groups config and global have it with different names.
func newConfigSet(a *app, name, example string) *cobra.Command {
	var persist bool
	c := &cobra.Command{
		Use:   name + " KEY VALUE",
		Short: "change a key at run time; sessions stay",
		Long: `Change a key at run time; sessions stay. KEY and VALUE are as in the configuration file, with commas between the
values of a list, or as in Jool: udp-timeout 00:05:00, address-dependent-filtering TRUE.

The change holds until nat64d stops or reloads its configuration. With --persist nat64d also writes it to
conf.d/90-nat64ctl.yaml next to the configuration file, for later starts.`,
		Example:           example,
		Args:              arguments(keyValue, nil),
		ValidArgsFunction: a.completeKeys,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.client().SetConfig(c.Context(), control.ConfigChange{Key: args[0], Value: args[1], Persist: persist})
			if err != nil {
				return err
			}
			a.warn(r.Warnings)
			return a.printSettings(r, []control.ConfigResult{r})
		},
	}
	c.Flags().BoolVar(&persist, "persist", false, "save the value for the next start, too")
	return c
}

var settingColumns = []column[control.ConfigResult]{
	{"", "name", func(r control.ConfigResult) string { return r.Name }, nil},
	{"", "old", func(r control.ConfigResult) string { return r.Old }, nil},
	{"", "new", func(r control.ConfigResult) string { return r.New }, nil},
	{"", "persisted", func(r control.ConfigResult) string { return r.Persisted }, nil},
}

// printSettings prints the new values of keys: the whole answer as JSON, or a line per key.
func (a *app) printSettings(answer any, rs []control.ConfigResult) error {
	switch a.format {
	case formatJSON:
		return printObject(a.out, answer)
	case formatCSV:
		return printAll(a, settingColumns, rs)
	}
	for _, r := range rs {
		if r.Old == r.New {
			fmt.Fprintf(a.out, "%s is %s already\n", r.Name, shown(r.New))
		} else {
			fmt.Fprintf(a.out, "%s was %s, is now %s\n", r.Name, shown(r.Old), shown(r.New))
		}
		if r.Persisted != "" {
			fmt.Fprintln(a.out, "kept in", r.Persisted)
		}
	}
	return nil
}

// warn writes warnings to stderr, apart from the result.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(a.err, "nat64ctl: warning:", w)
	}
}

// completeKeys returns the keys of the daemon for completion in the shell.
func (a *app) completeKeys(c *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	keys, err := a.client().GetConfig(c.Context(), "")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.Name+"\t"+k.Help)
		for _, j := range k.Jool {
			names = append(names, j.Name+"\tin Jool: "+k.Name)
		}
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, begun) })
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}
