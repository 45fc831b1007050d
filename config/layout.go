package config

import (
	"fmt"
	"reflect"
	"strings"
)

// join appends a key to the path of its section.
func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

// keysOf returns the keys of a section in the order of the layout.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// fieldOf returns the field of a section for a key.
func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	for i := range t.NumField() {
		if f := t.Field(i); f.Tag.Get("yaml") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// unknown returns the problem with a key that a section does not have. It suggests a key of the section with a similar name,
// or one with the same name in another section.
func unknown(t reflect.Type, key string) string {
	best := nearest(key, keysOf(t), 0)
	if best == "" {
		best = elsewhere(reflect.TypeFor[file](), "", key)
	}
	if best != "" {
		return fmt.Sprintf("unknown key; did you mean %s?", best)
	}
	return fmt.Sprintf("unknown key; known here: %s", strings.Join(keysOf(t), ", "))
}

// elsewhere returns the path of the first key with the name below a section, or "".
func elsewhere(t reflect.Type, section, key string) string {
	for i := range t.NumField() {
		f := t.Field(i)
		path := join(section, f.Tag.Get("yaml"))
		if f.Tag.Get("yaml") == key {
			return path
		}
		sub := f.Type
		if sub.Kind() == reflect.Slice {
			sub, path = sub.Elem(), path+"[]"
		}
		if sub.Kind() == reflect.Struct {
			if found := elsewhere(sub, path, key); found != "" {
				return found
			}
		}
	}
	return ""
}

// nearest returns the most similar of the words, or "" if more than a third of the word differs from each. prefix is the
// number of leading bytes that do not count for the third.
func nearest(word string, words []string, prefix int) string {
	best, distance := "", 1+max(1, (len(word)-prefix)/3)
	for _, w := range words {
		if d := editDistance(word, w); d < distance {
			best, distance = w, d
		}
	}
	return best
}

// editDistance returns the number of bytes to insert, delete or replace to turn a into b (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
