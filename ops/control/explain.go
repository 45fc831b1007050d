package control

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Question describes a packet, for Backend.Explain.
type Question struct {
	Protocol        string     // tcp, udp or icmp
	Source          netip.Addr // of an IPv6 client, or of an IPv4 host
	SourcePort      *uint16    // or the Identifier of icmp; nil: nat64d chooses one
	Destination     netip.Addr // of an IPv6 source, an IPv4 destination stands for its address in the first prefix
	DestinationPort *uint16    // not of icmp
	Flags           string     // of tcp: syn, syn-ack, ack, fin or rst; empty: syn
	Reply           bool       // icmp: an echo reply, not a request
	Size            int        // length of the IP packet in bytes; 0: as short as possible
	DF              bool       // Don't Fragment, of an IPv4 packet
	HopLimit        int        // or TTL; 0: 64
}

// Explanation is what would become of a packet.
type Explanation struct {
	Assumed []string `json:"assumed,omitempty"` // values that nat64d has chosen because the question has none, one phrase each
	Verdict
	Via       netip.Addr `json:"via,omitzero"`              // the router, or the destination if that is on the link
	Interface string     `json:"interface,omitempty"`       // the packet would leave through it
	Expires   Seconds    `json:"expires_seconds,omitempty"` // remaining lifetime of the session after the packet
	Ends      []Session  `json:"ends,omitempty"`            // sessions that would end to make room for its own
}

// flagNames are the kinds of TCP segments that a Question can ask for.
var flagNames = []string{"syn", "syn-ack", "ack", "fin", "rst"}

// explain answers with an Explanation.
func explain(s *server, w http.ResponseWriter, r *http.Request) {
	q, err := ParseQuestion(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	x, err := s.backend.Explain(q)
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, http.StatusOK, x)
}

// Explain returns what would become of a packet, without sending one. The query is as ParseQuestion reads it.
func (c *Client) Explain(ctx context.Context, query url.Values) (x Explanation, err error) {
	if _, err := ParseQuestion(query); err != nil {
		return x, err
	}
	return x, c.get(ctx, "/v1/explain?"+query.Encode(), &x)
}

// ParseQuestion decodes the query of a question.
func ParseQuestion(v url.Values) (q Question, err error) {
	for name, vs := range v {
		if len(vs) != 1 {
			return q, &Error{Message: name + " is given more than once"}
		}
		if err := q.set(name, vs[0]); err != nil {
			return q, err
		}
	}
	return q, q.check()
}

// set sets the field of one parameter.
func (q *Question) set(name, text string) (err error) {
	switch name {
	case "protocol":
		q.Protocol, err = text, checkProtocols([]string{text})
	case "source":
		q.Source, err = parseHost(name, text)
	case "destination":
		q.Destination, err = parseHost(name, text)
	case "source_port":
		q.SourcePort, err = parsePort("source port", text)
	case "destination_port":
		q.DestinationPort, err = parsePort("destination port", text)
	case "flags":
		if q.Flags = text; !slices.Contains(flagNames, text) {
			err = &Error{Message: fmt.Sprintf("%q are no flags of a TCP segment", text), Hint: "use " + strings.Join(flagNames, ", ")}
		}
	case "reply":
		q.Reply, err = parseBool(name, []string{text})
	case "df":
		q.DF, err = parseBool(name, []string{text})
	case "size":
		q.Size, err = parseNumber(name, text, 1, 65535)
	case "hop_limit":
		q.HopLimit, err = parseNumber("hop limit", text, 1, 255)
	default:
		err = &Error{Message: fmt.Sprintf("unknown parameter %q", name),
			Hint: "use protocol, source, source_port, destination, destination_port, flags, reply, size, df and hop_limit"}
	}
	return err
}

// check reports what is missing, and what does not go together.
func (q *Question) check() error {
	icmp := q.Protocol == "icmp"
	switch {
	case q.Protocol == "":
		return &Error{Message: "the protocol is missing", Hint: "use tcp, udp or icmp"}
	case !q.Source.IsValid():
		return &Error{Message: "the source is missing", Hint: "use the address of an IPv6 client, or of an IPv4 host for the way back"}
	case !q.Destination.IsValid():
		return &Error{Message: "the destination is missing", Hint: "use an IPv4 address, or an IPv6 address in a prefix of pool6"}
	case q.Source.Is4() && q.Destination.Is6():
		return &Error{
			Message: fmt.Sprintf("the source %v is IPv4, and the destination %v IPv6", q.Source, q.Destination),
			Hint:    "packets from IPv4 hosts go to an address and port of pool4: nat64ctl session list shows those of a client as MAPPED",
		}
	case icmp && q.SourcePort != nil && q.DestinationPort != nil:
		return &Error{Message: "icmp has one Identifier, and two are given", Hint: "write it behind the source or behind the destination"}
	case !icmp && q.DestinationPort == nil:
		return &Error{Message: q.Protocol + " needs a destination port", Hint: "write it behind the destination"}
	case !icmp && (*q.DestinationPort == 0 || q.SourcePort != nil && *q.SourcePort == 0):
		return &Error{Message: q.Protocol + " has no port 0", Hint: "use a port from 1 to 65535"}
	case q.Flags != "" && q.Protocol != "tcp":
		return &Error{Message: q.Protocol + " has no flags", Hint: "only tcp has"}
	case q.Reply && !icmp:
		return &Error{Message: q.Protocol + " has no echo replies", Hint: "only icmp has"}
	case q.DF && q.Source.Is6():
		return &Error{Message: "an IPv6 packet has no Don't Fragment", Hint: "no router fragments it; leave df out"}
	}
	return nil
}

func parseHost(name, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && a.Zone() != "":
		return a, &Error{Message: fmt.Sprintf("%s %q has a zone", name, text), Hint: "nat64d has one IPv6 interface: leave the zone out"}
	case err == nil && a.Is4In6():
		return a, &Error{Message: fmt.Sprintf("%s %q is an IPv4-mapped address", name, text), Hint: fmt.Sprintf("write %v", a.Unmap())}
	case err == nil:
		return a, nil
	}
	if p, err := netip.ParseAddrPort(text); err == nil {
		return a, &Error{Message: fmt.Sprintf("%s %q has a port in it", name, text), Hint: fmt.Sprintf("write %v %d", p.Addr(), p.Port())}
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return a, &Error{Message: fmt.Sprintf("%s %q is a network", name, text), Hint: fmt.Sprintf("use one address, such as %v", p.Addr())}
	}
	return a, &Error{Message: fmt.Sprintf("%s %q is not an address", name, text), Hint: "names are not resolved: use an IPv6 or IPv4 address"}
}

func parsePort(what, text string) (*uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, &Error{Message: fmt.Sprintf("%s %q is not a port", what, text), Hint: "use a number from 1 to 65535"}
	}
	port := uint16(n)
	return &port, nil
}

func parseNumber(name, text string, lo, hi int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < lo || n > hi {
		return 0, &Error{Message: fmt.Sprintf("%s %q is wrong", name, text), Hint: fmt.Sprintf("use a number from %d to %d", lo, hi)}
	}
	return n, nil
}
