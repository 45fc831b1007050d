package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// visit calls f with the path of every key of the layout, in the notation of the features table.
func visit(t reflect.Type, section string, f func(key string, t reflect.Type)) {
	for i := range t.NumField() {
		key, sub := join(section, t.Field(i).Tag.Get("yaml")), t.Field(i).Type
		f(key, sub)
		if sub.Kind() == reflect.Slice {
			key, sub = key+"[]", sub.Elem()
		}
		if sub.Kind() == reflect.Struct {
			visit(sub, key, f)
		}
	}
}

// TestReferenceHasEveryKey reads the reference file with its examples enabled.
func TestReferenceHasEveryKey(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("nat64d.yaml")
	if err != nil {
		t.Fatal(err)
	}
	d := newDocument()
	d.read("reference", strings.NewReader(strings.ReplaceAll(string(reference), "\n#  ", "\n   ")))
	if d.decode(); len(d.problems) > 0 {
		t.Fatal(d.problems)
	}
	visit(reflect.TypeFor[file](), "", func(key string, _ reflect.Type) {
		if key == "allow_unsafe_timeouts" || key == "state.save_sessions_on_exit" { // its place is section sessions; it has no effect
			return
		}
		if _, ok := d.where[strings.ReplaceAll(key, "[]", "[0]")]; !ok {
			t.Errorf("the reference file does not show %s", key)
		}
	})
}

// TestFeatures writes each feature's key into a file. Its off values are accepted, another value is refused.
func TestFeatures(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	visit(reflect.TypeFor[file](), "", func(key string, _ reflect.Type) { known[key] = true })
	for _, f := range features {
		if !known[f.key] {
			t.Errorf("%s is not a key of the layout", f.key)
		}
		for _, off := range f.off {
			if err := parseKey(f.key, off); err != nil {
				t.Errorf("%s: %s refused: %v", f.key, off, err)
			}
		}
		err := parseKey(f.key, "[something, else]")
		if err == nil || !strings.Contains(err.Error(), "is not available in this version") {
			t.Errorf("%s: error is %v", f.key, err)
		}
	}
}

// parseKey parses a file that sets one key.
func parseKey(key, value string) error {
	if value == "" {
		value = `""`
	}
	text := value
	parts := strings.Split(key, ".")
	for i := len(parts) - 1; i >= 0; i-- {
		name, inList := strings.CutSuffix(parts[i], "[]")
		if inList {
			row := strings.TrimPrefix(text, "{")
			if name == "pool4" {
				row = "address: 192.0.2.1, " + row
			}
			text = fmt.Sprintf("{ %s: [ { %s ] }", name, row)
		} else {
			text = fmt.Sprintf("{ %s: %s }", name, text)
		}
	}
	_, err := Parse("f", strings.NewReader(text), Given("--v6=eth0", "--v4=eth1"))
	return err
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"abc", "", 3}, {"engine", "engine", 0}, {"engin", "engine", 1}, {"guadr", "guard", 2}, {"kitten", "sitting", 3}} {
		if got := editDistance(tt.a, tt.b); got != tt.want {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

// TestKeysAreThoseOfTheLayout compares the table of keys with the layout. Each single value and list of values has a row, in
// the same order, except those without effect in this version.
func TestKeysAreThoseOfTheLayout(t *testing.T) {
	t.Parallel()
	var want, got []string
	visit(reflect.TypeFor[file](), "", func(key string, t reflect.Type) {
		value := t.Kind() != reflect.Struct && (t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct)
		off := key == "version" || key == "allow_unsafe_timeouts" || key == "state.save_sessions_on_exit" ||
			strings.Contains(key, "[]") ||
			slices.ContainsFunc(features, func(f feature) bool { return f.key == key })
		if value && !off {
			want = append(want, key)
		}
	})
	for _, k := range Keys() {
		got = append(got, k.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("keys are\n%v\nwant\n%v", got, want)
	}
	for _, a := range aliases {
		if _, _, err := find(a.name); err != nil || a.isBool() != (a.off != "") {
			t.Errorf("alias %+v: %v", a, err)
		}
	}
}

// The reference file marks exactly the keys that need a restart, and docs/configuration.md lists them.
func TestReferenceAndPageListRestartKeys(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("nat64d.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(reference), "\n")
	d := newDocument()
	d.read("reference", strings.NewReader(string(reference)))
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "These keys need a restart:")
	list, _, _ = strings.Cut(list, "\n\n")
	said := regexp.MustCompile(`restart\b`)
	for _, k := range Keys() {
		at, ok := d.where[k.Name]
		if !ok {
			continue // it has no place of its own in the file
		}
		if restart := said.MatchString(lines[at.line-1]); restart == k.Live {
			t.Errorf("nat64d.yaml:%d: the comment says restart: %v, but %s may change while nat64d runs: %v", at.line, restart, k.Name, k.Live)
		}
		if listed := strings.Contains(list, "`"+k.Name+"`"); listed == k.Live {
			t.Errorf("docs/configuration.md lists %s among the keys that need a restart: %v, but it may change while nat64d runs: %v", k.Name, listed, k.Live)
		}
	}
}

// TestVariablesAreDistinct checks that no two keys have the same variable, although _ replaces dots and is part of keys.
func TestVariablesAreDistinct(t *testing.T) {
	t.Parallel()
	keyOf := map[string]string{}
	for _, key := range settable() {
		v := variable(key)
		if other, twice := keyOf[v]; twice {
			t.Errorf("%s stands for %s and for %s", v, other, key)
		}
		if foreign(v, "tcp://192.0.2.1:53") {
			t.Errorf("%s, of %s, counts as a variable of another program", v, key)
		}
		keyOf[v] = key
	}
	for _, f := range flags {
		if _, ok := keyOf[variable(f.key)]; !ok {
			t.Errorf("--%s sets %s, which is no key", f.name, f.key)
		}
	}
}
