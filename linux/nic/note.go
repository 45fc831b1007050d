//go:build linux

package nic

import "strings"

// originals are the original values of changed settings, by name.
type originals map[string]bool

// String returns a form such as "rx-gro=off threaded=off", in the order of settings: at most 100 bytes.
func (o originals) String() string {
	var words []string
	for n := range settings {
		if on, noted := o[settings[n].name]; noted {
			words = append(words, settings[n].note+"="+word(on))
		}
	}
	return strings.Join(words, " ")
}

// parse parses the result of String. It ignores names that it does not know: the note may be from another version.
func parse(note string) originals {
	o := originals{}
	for text := range strings.FieldsSeq(note) {
		name, value, _ := strings.Cut(text, "=")
		for n := range settings {
			if settings[n].note == name && (value == word(true) || value == word(false)) {
				o[settings[n].name] = value == word(true)
			}
		}
	}
	return o
}

func word(on bool) string {
	if on {
		return "on"
	}
	return "off"
}
