package control

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// TraceFilter selects packets of a trace or a capture. The zero TraceFilter selects all packets that are for nat64d.
type TraceFilter struct {
	Client    netip.Prefix // contains the IPv6 client; zero: any
	Peer      netip.Prefix // contains the IPv4 host; zero: any
	Ports     []uint16     // on either side of nat64d, Identifiers for icmp; empty: any
	Protocols []string     // tcp, udp and icmp; empty: all
	Reasons   []string     // labels of drop reasons; empty: any fate
	Drops     bool         // only packets that are dropped
	Limit     int          // ends after this number of packets; 0: does not end
	Snap      int          // bytes of each packet in a capture; 0: all
}

// Verdict is what became of a packet, or would become of one. JSON represents addresses and ports as separate values; the port of an
// ICMP query is its Identifier.
type Verdict struct {
	Verdict   string `json:"verdict"`          // forwarded, dropped, left_to_host, waits_for_hop, waits_for_fragments or stored_syn
	Reason    string `json:"reason,omitempty"` // of a packet that was not forwarded: the label of the drop reason
	Hint      string `json:"hint,omitempty"`   // a sentence about the reason
	Direction string `json:"direction"`        // 6to4, 4to6 or hairpin
	Protocol  string `json:"protocol"`

	Client     netip.Addr `json:"client,omitzero"`
	ClientPort uint16     `json:"client_port,omitempty"`
	Mapped     netip.Addr `json:"mapped,omitzero"`
	MappedPort uint16     `json:"mapped_port,omitempty"`
	Peer       netip.Addr `json:"peer,omitzero"`
	PeerPort   uint16     `json:"peer_port,omitempty"`

	Session     string `json:"session,omitempty"` // made, found or none
	StateBefore string `json:"state_before,omitempty"`
	State       string `json:"state,omitempty"` // of the session after the packet

	Received Headers  `json:"received,omitzero"`  // not of packets that are dropped after they have waited
	Sent     *Headers `json:"sent,omitempty"`     // the translation, or the first packet that it was sent in
	Pieces   int      `json:"pieces,omitempty"`   // packets that the translation was sent in
	NextHop  string   `json:"next_hop,omitempty"` // its link address
	MTU      int      `json:"mtu,omitempty"`      // of the next hop
	Answer   *Headers `json:"answer,omitempty"`   // the ICMP error or the reset that was sent for the packet

	Steps []Step `json:"steps"`
}

// Step is one step on the way of a packet.
type Step struct {
	Step string `json:"step"`          // its name
	Text string `json:"text"`          // a phrase for the operator
	RFC  string `json:"rfc,omitempty"` // the section that demands it
}

// Headers are the fields of a packet's headers.
type Headers struct {
	Source          netip.Addr `json:"source"`
	SourcePort      uint16     `json:"source_port,omitempty"`
	Destination     netip.Addr `json:"destination"`
	DestinationPort uint16     `json:"destination_port,omitempty"`
	Protocol        string     `json:"protocol"`
	Flags           string     `json:"flags,omitempty"`      // of TCP: SYN,ACK
	ICMPType        *uint8     `json:"icmp_type,omitempty"`  // of ICMP and ICMPv6
	ICMPCode        *uint8     `json:"icmp_code,omitempty"`  // of ICMP and ICMPv6
	Identifier      *uint16    `json:"identifier,omitempty"` // of an ICMP echo message
	HopLimit        int        `json:"hop_limit"`            // or TTL
	Length          int        `json:"length"`               // of the IP packet, in bytes
	Segment         int        `json:"segment,omitempty"`    // of a super-packet: payload bytes of each segment
	Text            string     `json:"text"`                 // all of it in a phrase
}

// Traced is a packet of a trace.
type Traced struct {
	Time time.Time `json:"time"`
	Verdict
}

// CaptureStart is what a capture begins with.
type CaptureStart struct {
	Version    string             `json:"version"`
	Snap       int                `json:"snap"` // bytes of each packet at most
	Interfaces []CaptureInterface `json:"interfaces"`
}

// CaptureInterface is one of the two sides. A machine with one NIC has it for both.
type CaptureInterface struct {
	Side string `json:"side"` // v6 or v4
	Name string `json:"name"`
}

// Captured is a packet of a capture: one that arrived, or one that left for it. Those of one packet have the same time, that of the
// batch in which it was processed.
type Captured struct {
	Time    time.Time `json:"time"`
	Side    string    `json:"side"`    // the interface
	Comment string    `json:"comment"` // its direction, its session and, unless it was forwarded, the reason
	Length  int       `json:"length"`  // of the packet, in bytes
	Data    []byte    `json:"data"`    // from the IP header on; base64 in JSON
}

// Recording is a trace or a capture that runs until Close.
type Recording[T any] interface {
	// Read waits for packets until ctx is done. missed is the number of packets that were left out since the last call.
	Read(ctx context.Context) (list []T, missed uint64, err error)
	Close()
}

// recordLine is one line of a trace or a capture; exactly one of the fields is set.
type recordLine[T any] struct {
	Start  *CaptureStart `json:"start,omitempty"` // the first line of a capture
	Item   *T            `json:"item,omitempty"`
	Missed uint64        `json:"missed,omitempty"` // packets that were left out before the next line
	End    *end          `json:"end,omitempty"`    // the last line
	Error  *Error        `json:"error,omitempty"`  // the last line
}

// trace answers with a line for each packet until the client closes the connection.
func trace(s *server, w http.ResponseWriter, r *http.Request) {
	f, err := parseTrace(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	t, err := s.backend.Trace(f)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	record(w, r, nil, t, f.Limit)
}

// capture answers like trace, with the packets themselves.
func capture(s *server, w http.ResponseWriter, r *http.Request) {
	p := client(r)
	if e := p.gate.captureRefusal(p); e != nil {
		refuse(w, http.StatusForbidden, e)
		return
	}
	f, err := parseTrace(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	start, c, err := s.backend.Capture(f)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	s.log.LogAttrs(r.Context(), slog.LevelInfo, "capturing packets", append(p.attrs(), slog.String("filter", r.URL.RawQuery))...)
	record(w, r, &start, c, f.Limit)
}

// record answers with the lines of a recording, which it closes, until the limit or until the client closes the connection.
func record[T any](w http.ResponseWriter, r *http.Request, start *CaptureStart, rec Recording[T], limit int) {
	defer rec.Close()
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, streamBuffer)
	enc := json.NewEncoder(out)
	if start != nil {
		_ = enc.Encode(recordLine[T]{Start: start}) // Flush reports errors
	}
	conn := http.NewResponseController(w)
	for count := 0; ; {
		if out.Flush() != nil || conn.Flush() != nil {
			return
		}
		list, missed, err := rec.Read(r.Context())
		if err != nil {
			return // the client is gone, or nat64d stops
		}
		if missed > 0 {
			_ = enc.Encode(recordLine[T]{Missed: missed})
		}
		for i := range list {
			_ = enc.Encode(recordLine[T]{Item: &list[i]})
			if count++; count == limit {
				_ = enc.Encode(recordLine[T]{End: &end{count}})
				_ = out.Flush()
				return
			}
		}
	}
}

// values encodes the filter as the query of a request.
func (f *TraceFilter) values() url.Values {
	common := Filter{Protocols: f.Protocols, Client: f.Client, Peer: f.Peer, Limit: f.Limit}
	v := common.values()
	for _, p := range f.Ports {
		v.Add("port", strconv.Itoa(int(p)))
	}
	for _, r := range f.Reasons {
		v.Add("reason", r)
	}
	if f.Drops {
		v.Set("drops", "true")
	}
	if f.Snap > 0 {
		v.Set("snap", strconv.Itoa(f.Snap))
	}
	return v
}

// maxPorts is the maximum number of ports and of reasons in a TraceFilter.
const maxPorts = 64

// parseTrace decodes the query of a trace or a capture.
func parseTrace(v url.Values) (f TraceFilter, err error) {
	common := url.Values{}
	for name, vs := range v {
		switch name {
		case "port":
			f.Ports, err = parsePorts(vs)
		case "reason":
			f.Reasons = vs
		case "drops":
			f.Drops, err = parseBool(name, vs)
		case "snap":
			f.Snap, err = parseCount(name, vs)
		default:
			common[name] = vs
		}
		if err == nil && len(vs) > maxPorts {
			err = &Error{Message: fmt.Sprintf("%s is given %d times", name, len(vs)), Hint: fmt.Sprintf("use at most %d", maxPorts)}
		}
		if err != nil {
			return TraceFilter{}, err
		}
	}
	permitted := []string{"protocol", "client", "peer", "limit"}
	for name := range common {
		if !slices.Contains(permitted, name) {
			return TraceFilter{}, &Error{Message: fmt.Sprintf("unknown filter %q", name), Hint: "use protocol, client, peer, port, reason, drops, limit and snap"}
		}
	}
	c, err := parseFilter(common, permitted)
	if err != nil {
		return TraceFilter{}, err
	}
	f.Protocols, f.Client, f.Peer, f.Limit = c.Protocols, c.Client, c.Peer, c.Limit
	return f, nil
}

func parsePorts(vs []string) (ports []uint16, err error) {
	for _, s := range vs {
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil {
			return nil, &Error{Message: fmt.Sprintf("port %q is not a port", s), Hint: "use a number from 0 to 65535"}
		}
		ports = append(ports, uint16(n))
	}
	return ports, nil
}

func parseBool(name string, vs []string) (bool, error) {
	if len(vs) == 1 && (vs[0] == "true" || vs[0] == "false") {
		return vs[0] == "true", nil
	}
	return false, &Error{Message: fmt.Sprintf("%s is %q", name, vs), Hint: "use true or false"}
}

func parseCount(name string, vs []string) (int, error) {
	if len(vs) == 1 {
		if n, err := strconv.Atoi(vs[0]); err == nil && n >= 0 {
			return n, nil
		}
	}
	return 0, &Error{Message: fmt.Sprintf("%s is %q", name, vs), Hint: "use one number"}
}
