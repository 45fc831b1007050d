package config

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

var (
	yamlLine  = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)
	anchor    = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	tabBefore = regexp.MustCompile(`^ *\t`)
)

// ofParser lists the errors for which the YAML library counts lines from 0. It counts lines from 1 in errors of its scanner,
// and reports no line for the first one in either case.
var ofParser = []string{
	"did not find expected node content", "did not find expected key", "did not find expected '-' indicator",
	"did not find expected ',' or ']'", "did not find expected ',' or '}'", "did not find expected <document start>",
}

// syntaxError returns the line and the message of an error of the YAML parser.
func syntaxError(err error, text string) (line int, message string) {
	m := yamlLine.FindStringSubmatch(err.Error())
	if m == nil {
		return 0, err.Error()
	}
	message = err.Error()[len(m[0]):]
	line, _ = strconv.Atoi(m[1]) // 0 if there is none
	switch a := anchor.FindStringSubmatch(message); {
	case a != nil:
		line = lineOf(text, strings.Index(text, "*"+a[1]))
	case strings.Contains(message, "UTF-8") || strings.Contains(message, "control characters"):
		line = lineOf(text, strings.IndexFunc(text, unreadable))
	case slices.Contains(ofParser, message):
		line++
	}
	lines := strings.Split(strings.TrimRight(text, "\r\n \t"), "\n")
	line = min(max(line, 1), len(lines)) // the parser may report a line after the end of the file
	if tabBefore.MatchString(lines[line-1]) {
		message += "; indent with blanks, not with tabs"
	}
	return line, "not YAML: " + message
}

// lineOf returns the number of the line that contains a byte of the text.
func lineOf(text string, at int) int { return 1 + strings.Count(text[:max(at, 0)], "\n") }

// unreadable reports whether YAML does not allow a character, or the bytes are not UTF-8.
func unreadable(r rune) bool {
	return r == utf8.RuneError || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r < 0xa0 && r != 0x85
}
