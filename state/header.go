//go:build linux

package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"strings"
	"time"

	"nat64d/bib"
	"nat64d/pool4"
	"nat64d/session"
)

// Layout is the version of the files that this program writes. It reads all layouts up to this one.
const Layout = 1

// Header is the key to the files of a process.
type Header struct {
	Layout    int            `json:"layout"`
	Version   string         `json:"version"`   // of nat64d
	Boot      string         `json:"boot"`      // the kernel's boot ID: the clock and the addresses of another boot mean nothing
	Namespace uint64         `json:"namespace"` // the network namespace
	Start     time.Duration  `json:"start"`     // time 0 of the tables on the monotonic clock of the system
	Sizes     map[string]int `json:"sizes"`     // of the values in each file, in bytes
	Prefixes  []netip.Prefix `json:"prefixes"`  // NAT64 prefixes by their number in sessions; invalid: none
	Loaded    Lists          `json:"loaded"`    // as the configuration said
	Current   Lists          `json:"current"`   // with the changes since then
	Followed  []Followed     `json:"followed"`  // with those of earlier addresses that have bindings
	Kernel    [3]int32       `json:"kernel"`    // what the process has learned about the running kernel
	Released  bool           `json:"released"`  // the process has given the host its ports back
}

// Lists are the lists that an administrator can change while the gateway runs.
type Lists struct {
	Pool6    []netip.Prefix   `json:"pool6"`
	Pool4    []pool4.Entry    `json:"pool4"`
	Static   []Static         `json:"static"`
	Followed []pool4.Followed `json:"followed"`
}

// Followed is a range that was in pool4 because an interface had its address.
type Followed struct {
	Interface string `json:"interface"`
	pool4.Entry
}

// Static is a static row of the binding information bases.
type Static struct {
	Mapped pool4.Entry    `json:"mapped"` // of one port
	Client netip.AddrPort `json:"client"`
}

// magic begins a header. The layout and a checksum of the rest follow on the same line.
const magic = "nat64d state"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode returns the contents of a header file.
func (h *Header) encode() ([]byte, error) {
	body, err := json.MarshalIndent(h, "", "\t")
	if err != nil {
		return nil, err
	}
	return append(fmt.Appendf(nil, "%s %d %08x\n", magic, h.Layout, crc32.Checksum(body, castagnoli)), body...), nil
}

var errDamaged = errors.New("its header is damaged")

// decodeHeader decodes the contents of a header file.
func decodeHeader(b []byte) (*Header, error) {
	line, body, _ := bytes.Cut(b, []byte("\n"))
	var layout int
	var sum uint32
	if n, err := fmt.Sscanf(strings.TrimPrefix(string(line), magic), " %d %08x", &layout, &sum); n != 2 || err != nil || !bytes.HasPrefix(line, []byte(magic)) {
		return nil, errDamaged
	}
	if layout < 1 || layout > Layout {
		return nil, fmt.Errorf("it has layout %d of another version of nat64d, and this one reads layouts up to %d", layout, Layout)
	}
	h := &Header{}
	if crc32.Checksum(body, castagnoli) != sum || json.Unmarshal(body, h) != nil || h.Layout != layout {
		return nil, errDamaged
	}
	return h, h.checkSizes()
}

// sizes are those of the values in the files of layout 1.
var sizes = map[string]int{
	bindings: bib.EntryLen, bindings + seals: sealLen, sessions: session.EntryLen, sessions + seals: sealLen,
	windows: 1, held: 1,
}

// The files of a process, besides the header.
const (
	bindings = "bindings"
	sessions = "sessions"
	seals    = ".seals"
	windows  = "windows"
	held     = "held"
	alive    = "alive"

	sealLen = 4
)

func (h *Header) checkSizes() error {
	for name, size := range h.Sizes {
		if want, known := sizes[name]; known && size != want {
			return fmt.Errorf("a value in its file %s has %d bytes instead of %d", name, size, want)
		}
	}
	return nil
}

// prefix returns the NAT64 prefix of a number, which is invalid if there is none.
func (h *Header) prefix(n uint8) netip.Prefix {
	if int(n) < len(h.Prefixes) {
		return h.Prefixes[n]
	}
	return netip.Prefix{}
}
