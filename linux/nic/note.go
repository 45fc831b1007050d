//go:build linux

package nic

import "strings"

// originals are what settings were before they were changed, by their names.
type originals map[string]bool

// String writes them as "rx-gro=off threaded=off", in the order of the settings: at most 60 bytes.
func (o originals) String() string {
	var words []string
	for n := range settings {
		if on, ok := o[settings[n].name]; ok {
			words = append(words, settings[n].name+"="+word(on))
		}
	}
	return strings.Join(words, " ")
}

// parse reads what String writes. What it does not know it leaves out: a note may be of another version.
func parse(note string) originals {
	o := originals{}
	for text := range strings.FieldsSeq(note) {
		name, value, _ := strings.Cut(text, "=")
		for n := range settings {
			if settings[n].name == name && (value == word(true) || value == word(false)) {
				o[name] = value == word(true)
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
