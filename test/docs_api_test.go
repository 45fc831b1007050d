package test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"nat64d/ops/control"
)

// answers are the commands whose JSON the page on the API lists, and a value of their answer.
var answers = []struct {
	command, path string
	value         any
}{
	{"status", "GET /v1/status", control.Status{}},
	{"health", "GET /v1/health", control.Health{}},
	{"stats", "GET /v1/stats", []control.Counter{}},
	{"pool4 list", "GET /v1/pool4", []control.Pool4Entry{}},
	{"pool4 usage", "GET /v1/pool4/usage", control.Pool4Usage{}},
	{"pool4 add, remove, flush", "POST /v1/pool4/add", control.Pool4Result{}},
	{"pool6 list", "GET /v1/pool6", []control.Pool6Entry{}},
	{"pool6 add, remove", "POST /v1/pool6/add", control.Pool6Result{}},
	{"bib list", "GET /v1/bindings", []control.Binding{{}}},
	{"bib list --count", "GET /v1/bindings/count", control.BindingCount{}},
	{"bib add, remove", "POST /v1/bindings/add", control.BindingResult{}},
	{"session list", "GET /v1/sessions", []control.Session{fullSession}},
	{"session list --count", "GET /v1/sessions/count", control.SessionCount{}},
	{"session follow", "GET /v1/sessions/follow", control.SessionEvent{
		Time: time.Unix(1, 0), Event: control.SessionEnded, Session: fullSession, Before: "V6_INIT", Cause: "reset", Lost: 1,
	}},
	{"session remove", "POST /v1/sessions/remove", control.SessionResult{}},
	{"top (clients)", "GET /v1/clients", control.ClientList{}},
	{"addr", "GET /v1/address", []control.AddressPair{}},
	{"trace", "GET /v1/trace", control.Traced{}},
	{"explain", "GET /v1/explain", control.Explanation{}},
	{"capture (start)", "GET /v1/capture", control.CaptureStart{}},
	{"capture", "GET /v1/capture", control.Captured{}},
	{"doctor", "GET /v1/doctor", []control.Finding{}},
	{"support-bundle", "POST /v1/support", []control.SupportFile{}},
	{"config get", "GET /v1/config", []control.ConfigKey{}},
	{"config set", "POST /v1/config/set", control.ConfigResult{}},
	{"reload", "POST /v1/reload", control.ReloadResult{}},
	{"dns64 status", "GET /v1/dns64", control.DNS64Status{}},
	{"dns64 cache list", "GET /v1/dns64/cache", []control.DNS64Cached{}},
	{"dns64 cache flush", "POST /v1/dns64/flush", control.DNS64Flushed{}},
	{"dns64 query", "GET /v1/dns64/query", control.DNS64Answer{}},
	{"version", "GET /v1/version", control.Version{}},
}

var fullSession = control.Session{Client: netip.MustParseAddrPort("[2001:db8::8]:1"), State: "ESTABLISHED"}

// The page on the API lists the names of all fields, which scripts rely on. UPDATE_DOCS=1 writes the list.
func TestDocsAPI(t *testing.T) {
	t.Parallel()
	const path, from, to = "../docs/api.md", "<!-- the names: UPDATE_DOCS=1 go test -run TestDocsAPI ./test -->\n", "<!-- end -->\n"
	var list strings.Builder
	list.WriteString("| command | request | fields |\n|---|---|---|\n")
	for _, a := range answers {
		fmt.Fprintf(&list, "| `%s` | `%s` | `%s` |\n", a.command, a.path, strings.Join(fieldsOf(a.value), "`, `"))
	}
	page := read(t, path)
	before, rest, _ := strings.Cut(page, from)
	old, after, ok := strings.Cut(rest, to)
	switch {
	case !ok:
		t.Fatalf("%s has no list between %q and %q", path, from, to)
	case old == list.String():
	case os.Getenv("UPDATE_DOCS") != "":
		if err := os.WriteFile(path, []byte(before+from+list.String()+to+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not have the names of the fields. Names are stable: add new ones with UPDATE_DOCS=1 go test -run TestDocsAPI ./test, and do not rename others. The list is\n%s", path, list.String())
	}
}

// fieldsOf returns the paths of the JSON fields of a value's type, with [] for a list. Types with a JSON form of their own have
// those of the value.
func fieldsOf(v any) []string {
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Slice && reflect.ValueOf(v).Len() > 0 {
		v = reflect.ValueOf(v).Index(0).Interface()
	}
	if m, ok := v.(json.Marshaler); ok {
		return marshalled(m)
	}
	return fieldsOfType(t, "")
}

// marshalled returns the keys of a JSON object in their order.
func marshalled(m json.Marshaler) (names []string) {
	text, err := m.MarshalJSON()
	if err != nil {
		panic(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	for i := 0; ; i++ {
		token, err := dec.Token()
		if err != nil {
			return names
		}
		if name, ok := token.(string); ok && i%2 == 1 { // the brace, then keys and values in turn
			names = append(names, name)
		}
	}
}

func fieldsOfType(t reflect.Type, prefix string) (names []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fieldsOfType(f.Type, prefix)...)
			continue
		case name == "":
			panic(fmt.Sprintf("%v.%s has no name in JSON", t, f.Name))
		}
		inner, list := f.Type, ""
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			if inner.Kind() == reflect.Slice && inner.Elem().Kind() != reflect.Uint8 { // bytes are a string
				list = "[]"
			}
			inner = inner.Elem()
		}
		if inner == reflect.TypeFor[control.Session]() {
			for _, n := range marshalled(fullSession) {
				names = append(names, prefix+name+list+"."+n)
			}
			continue
		}
		if inner.Kind() == reflect.Struct && !reflect.PointerTo(inner).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
			names = append(names, fieldsOfType(inner, prefix+name+list+".")...)
			continue
		}
		names = append(names, prefix+name+list)
	}
	return names
}

// Every name is in snake case.
func TestNamesOfFieldsAreInSnakeCase(t *testing.T) {
	t.Parallel()
	for _, a := range answers {
		for _, name := range fieldsOf(a.value) {
			if name != strings.ToLower(name) || strings.ContainsAny(name, "- ") || slices.Contains(strings.Split(name, "."), "") {
				t.Errorf("%s: %q", a.command, name)
			}
		}
	}
}
