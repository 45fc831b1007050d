package control

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
)

// Diagnosis examines the gateway and the machine around it.
type Diagnosis interface {
	// Doctor returns the result of every check.
	Doctor(context.Context, DoctorRequest) ([]Finding, error)
	// Support returns the files of a bug report, without secrets.
	Support(context.Context) ([]SupportFile, error)
}

// Severities of a Finding.
const (
	SeverityOK      = "ok"      // the check has found nothing
	SeverityInfo    = "info"    // worth knowing
	SeverityWarning = "warning" // some packets or hosts are affected, or will be
	SeverityError   = "error"   // packets are not translated, or the host is cut off
)

// Finding is a result of a check.
type Finding struct {
	Severity string `json:"severity"` // ok, info, warning or error
	Check    string `json:"check"`
	Reason   string `json:"reason"`            // one sentence
	Command  string `json:"command,omitempty"` // mends it; words in capitals stand for values of the network
}

// DoctorRequest selects checks that send packets to hosts which the operator names.
type DoctorRequest struct {
	Probe string `json:"probe,omitempty"` // IPv4 address that is pinged through the translator
	DNS   string `json:"dns,omitempty"`   // the DNS64 server that the clients use; empty: that of nat64d
}

// SupportFile is a file of a bug report.
type SupportFile struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

func (r DoctorRequest) check() error {
	for _, p := range []struct{ name, value, right string }{{"probe", r.Probe, "an IPv4 address"}, {"dns", r.DNS, "an address"}} {
		if p.value == "" {
			continue
		}
		a, err := netip.ParseAddr(p.value)
		if err != nil || p.name == "probe" && !a.Is4() {
			return &Error{Message: fmt.Sprintf("%s %q is not %s", p.name, p.value, p.right), Hint: "use one such as 198.51.100.7"}
		}
	}
	return nil
}

func (r DoctorRequest) attrs() []slog.Attr {
	return []slog.Attr{slog.String("probe", r.Probe), slog.String("dns", r.DNS)}
}

func (DoctorRequest) example() string { return `{"probe": "198.51.100.7"}` }

// examine answers with the findings. A GET names no hosts, so that a client that may only read cannot have packets sent to any.
func examine(s *server, w http.ResponseWriter, r *http.Request) {
	found, err := s.backend.Doctor(r.Context(), DoctorRequest{})
	if err != nil {
		refuse(w, http.StatusUnprocessableEntity, err)
		return
	}
	answer(w, http.StatusOK, list(found))
}

// examineHosts is examine with the hosts that the request names.
func examineHosts(s *server, w http.ResponseWriter, r *http.Request) {
	q, err := decodeChange[DoctorRequest](r.Body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	found, err := s.backend.Doctor(r.Context(), q)
	s.done(w, r, list(found), err, q.attrs()...)
}

// support answers with the files of a bug report. It is a POST, because the log may have the addresses of clients.
func support(s *server, w http.ResponseWriter, r *http.Request) {
	files, err := s.backend.Support(r.Context())
	s.done(w, r, list(files), err)
}

// Doctor returns the result of every check.
func (c *Client) Doctor(ctx context.Context, q DoctorRequest) (v []Finding, err error) {
	if q == (DoctorRequest{}) {
		return v, c.get(ctx, "/v1/doctor", &v)
	}
	return v, c.post(ctx, "/v1/doctor/hosts", q, &v)
}

// Support returns the files of a bug report.
func (c *Client) Support(ctx context.Context) (v []SupportFile, err error) {
	return v, c.post(ctx, "/v1/support", nil, &v)
}
