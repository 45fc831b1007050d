package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// variablePrefix begins the name of each environment variable that sets a key. The key follows in upper case with _ for each
// dot. Since keys contain _ as well, a name cannot be split back into a key: each key is bound to its variable, and a test
// checks that no two keys have the same one.
const variablePrefix = "NAT64D_"

// variable returns the name of the environment variable that sets a key.
func variable(key string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// otherVariables have the prefix but set no key: nat64ctl reads the first, image builders set the second, and the others are
// for the tests of this project. There is no warning about them.
var otherVariables = []string{"NAT64D_SOCKET", "NAT64D_VERSION", "NAT64D_BIN", "NAT64D_CACHE", "NAT64D_FLOOD"}

// serviceVariable matches the variables that Kubernetes sets in each container for a service named nat64d or nat64d-…, except
// NAT64D_PORT and NAT64D_…_PORT, whose values are URLs.
var serviceVariable = regexp.MustCompile(`^NAT64D_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// foreign reports whether a variable with the prefix does not belong to the configuration.
func foreign(name, value string) bool {
	return slices.Contains(otherVariables, name) || serviceVariable.MatchString(name) ||
		strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// settable returns the keys that a variable or a flag can set: single values, lists of values, and the lists of rows whose
// rows can be written in one word.
func settable() []string {
	names := []string{"pool6", "pool4"}
	for _, k := range keys {
		names = append(names, k.Name)
	}
	return names
}

// environment binds keys to their variables. An empty variable counts as not set. An unknown variable is only a
// warning: scripts and containers set variables for their own purposes, and one of them must not prevent a start.
func (d *document) environment(environ []string) {
	known := map[string]string{}
	for _, key := range settable() {
		known[variable(key)] = key
		_ = d.settings.BindEnv(path(key), variable(key)) // fails only without a key
	}
	for _, entry := range slices.Sorted(slices.Values(environ)) {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || value == "" {
			continue
		}
		if key, ok := known[name]; ok {
			d.supersede(key, name)
		} else if !foreign(name, value) {
			d.warnings = append(d.warnings, name+": "+unknownVariable(name))
		}
	}
}

// unknownVariable returns a hint for a variable that sets no key, with the most similar name.
func unknownVariable(name string) string {
	for _, f := range features {
		if variable(f.key) == name {
			return f.key + " is not available in this version"
		}
	}
	if name == variable("bib") {
		return "bib can only be set in a file"
	}
	var names []string
	for _, key := range settable() {
		v := variable(key)
		switch {
		case strings.HasPrefix(v, name+"_"):
			return fmt.Sprintf("is a section of the configuration; set one of its keys, for example %s", v)
		case strings.HasSuffix(v, "_"+name[len(variablePrefix):]): // a common mistake: the section is missing
			return fmt.Sprintf("unknown variable; did you mean %s?", v)
		}
		names = append(names, v)
	}
	if best := nearest(name, names, len(variablePrefix)); best != "" {
		return fmt.Sprintf("unknown variable; did you mean %s?", best)
	}
	const example = "interfaces.v6.name"
	return fmt.Sprintf("unknown variable: no key of the configuration has this name; %s, for example, sets %s", variable(example), example)
}
