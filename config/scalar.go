package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"nat64d/pool4"
)

// decodeText is the mapstructure hook that parses the text of a scalar into the type of its key. Only this function defines
// the notation of values.
func decodeText(from, to reflect.Type, data any) (any, error) {
	text, ok := data.(string)
	if !ok {
		return data, nil
	}
	if to.Kind() == reflect.Slice { // from a variable or a flag
		return splitList(text), nil
	}
	switch to {
	case reflect.TypeFor[bool]():
		return parseBool(text)
	case reflect.TypeFor[int]():
		return parseInt(text)
	case reflect.TypeFor[share]():
		if text == "auto" {
			return shareAuto, nil
		}
		n, err := parseInt(text)
		return share(n), err
	case reflect.TypeFor[number]():
		if text == "auto" {
			return number(0), nil
		}
		n, err := parseInt(text)
		if err == nil && n == 0 {
			err = fmt.Errorf("must be auto or a number above 0")
		}
		return number(n), err
	case reflect.TypeFor[size]():
		return parseSize(text)
	case reflect.TypeFor[octet]():
		return parseOctet(text)
	case reflect.TypeFor[clamp]():
		return parseClamp(text)
	case reflect.TypeFor[rawPool6]():
		return rawPool6{Prefix: text}, nil
	case reflect.TypeFor[rawPool4]():
		return parsePool4(text), nil
	case reflect.TypeFor[interval]():
		d, err := parseDuration(text)
		return interval(d), err
	case reflect.TypeFor[polling]():
		if text == "auto" {
			return polling(BusyPollAuto), nil
		}
		d, err := parseDuration(text)
		if err != nil {
			err = fmt.Errorf("%w, or auto", err)
		}
		return polling(d), err
	default:
		return data, nil
	}
}

// splitList splits the text of a list at commas and blanks. The list may be in brackets.
func splitList(text string) []string {
	return split(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
}

// parsePool4 reads a row of pool4 from a variable or a flag: an address, or interface: and a name, with optional
// ports.
func parsePool4(text string) rawPool4 {
	if name, ports, ok := pool4.SplitInterface(text); ok {
		return rawPool4{Interface: name, Ports: ports}
	}
	address, ports := pool4.Split(text)
	if ports == "" {
		address = text
	}
	return rawPool4{Address: address, Ports: ports}
}

// parseBool reads the booleans of YAML 1.1 and of Jool, regardless of case.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", s)
}

// parseInt reads a decimal number. It refuses a leading zero, because YAML 1.1 reads such a number as octal.
func parseInt(s string) (int, error) {
	if len(s) > 1 && s[0] == '0' && strings.Trim(s, "0123456789") == "" {
		return 0, fmt.Errorf("%q has a leading zero; write it without", s)
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || s[0] == '+' {
		return 0, fmt.Errorf("%q is not a decimal number", s)
	}
	return n, nil
}

// units are the suffixes of a size, the largest first.
var units = []struct {
	name  string
	bytes int
}{{"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}}

// parseSize reads auto or a number of bytes: 536870912, 512M or 512MiB.
func parseSize(s string) (size, error) {
	if s == "auto" {
		return 0, nil
	}
	digits, unit := s, 1
	for _, u := range units {
		if rest, ok := strings.CutSuffix(strings.TrimSuffix(s, "iB"), u.name); ok {
			digits, unit = rest, u.bytes
		}
	}
	n, err := parseInt(digits)
	if err != nil || n == 0 || n > math.MaxInt/unit {
		return 0, fmt.Errorf("is %q, but must be auto or a number of bytes above 0, such as 536870912, 512M or 2G", s)
	}
	return size(n * unit), nil
}

// String returns the size in the notation of the file.
func (n size) String() string {
	if n == 0 {
		return "auto"
	}
	for _, u := range units {
		if int(n)%u.bytes == 0 {
			return strconv.Itoa(int(n)/u.bytes) + u.name
		}
	}
	return strconv.Itoa(int(n))
}

func parseOctet(s string) (octet, error) {
	if s == "copy" {
		return copied, nil
	}
	n, err := parseInt(s)
	if err != nil || n > 255 {
		return 0, fmt.Errorf("is %q, but must be copy or 0 to 255", s)
	}
	return octet(n), nil
}

// value returns the octet to write, or 0 for copied.
func (o octet) value() uint8 { return uint8(max(o, 0)) }

// String returns the octet in the notation of the file.
func (o octet) String() string {
	if o == copied {
		return "copy"
	}
	return strconv.Itoa(int(o))
}

func parseClamp(s string) (clamp, error) {
	switch s {
	case "off", "no", "false": // some tools write off, a boolean in YAML 1.1, as false
		return MSSOff, nil
	case "auto":
		return MSSAuto, nil
	}
	n, err := parseInt(s)
	if err != nil || n < minMSS || n > maxMSS {
		return 0, fmt.Errorf("is %q, but must be off, auto or %d to %d", s, minMSS, maxMSS)
	}
	return clamp(n), nil
}

// The bounds of an MSS: RFC 1122 section 4.2.2.6, and the payload of the largest IPv4 packet.
const (
	minMSS = 536
	maxMSS = 65535 - 40
)

// String returns the clamp in the notation of the file.
func (c clamp) String() string {
	switch c {
	case MSSOff:
		return "off"
	case MSSAuto:
		return "auto"
	}
	return strconv.Itoa(int(c))
}

// String returns the duration in the notation of the file.
func (p polling) String() string {
	if p == BusyPollAuto {
		return "auto"
	}
	return interval(p).String()
}

// shareAuto is the value of auto.
const shareAuto share = -1

// String returns the limit in the notation of the file.
func (n share) String() string {
	if n == shareAuto {
		return "auto"
	}
	return strconv.Itoa(int(n))
}

// String returns the number in the notation of the file.
func (n number) String() string {
	if n == 0 {
		return "auto"
	}
	return strconv.Itoa(int(n))
}

// parseDuration reads 90s, 5m, 1h30m, or Jool's HH:MM:SS.
func parseDuration(s string) (time.Duration, error) {
	if d, ok := clock(s); ok {
		return d, nil
	}
	if s != "0" && s != "" && strings.Trim(s, "0123456789") == "" {
		return 0, fmt.Errorf("%q has no unit; write %ss if seconds are meant", s, s)
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write it like 90s, 5m, 2h or 00:05:00", s)
	}
	return d, nil
}

// String returns the duration in the notation of the file: 2h4m instead of 2h4m0s.
func (v interval) String() string {
	s := time.Duration(v).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// clock reads HH:MM:SS, with up to four digits for the hours.
func clock(s string) (time.Duration, bool) {
	part := strings.Split(s, ":")
	if len(part) != 3 || len(part[0]) < 1 || len(part[0]) > 4 || len(part[1]) != 2 || len(part[2]) != 2 {
		return 0, false
	}
	var d time.Duration
	for i, unit := range []time.Duration{time.Hour, time.Minute, time.Second} {
		n, err := strconv.ParseUint(part[i], 10, 16)
		if err != nil || i > 0 && n > 59 {
			return 0, false
		}
		d += time.Duration(n) * unit
	}
	return d, true
}
