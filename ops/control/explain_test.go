package control_test

import (
	"net/url"
	"testing"

	"nat64d/ops/control"
)

func (*memory) Explain(q control.Question) (control.Explanation, error) {
	return control.Explanation{Assumed: []string{q.Source.String()}, Verdict: traced[0].Verdict}, nil
}

func TestExplain(t *testing.T) {
	t.Parallel()
	c := start(t, new(memory))
	x, err := c.Explain(t.Context(), mustQuery(t, "protocol=tcp&source=2001:db8::8&destination=198.51.100.7&destination_port=443"))
	if err != nil || len(x.Assumed) != 1 || x.Assumed[0] != "2001:db8::8" || x.Verdict.Verdict != "forwarded" {
		t.Errorf("%+v, %v", x, err)
	}
}

// FuzzParseQuestion: a question that is accepted is complete.
func FuzzParseQuestion(f *testing.F) {
	f.Add("protocol=tcp&source=2001:db8::8&source_port=5000&destination=198.51.100.7&destination_port=443&flags=ack&size=1500")
	f.Add("protocol=icmp&source=198.51.100.7&destination=192.0.2.1&destination_port=7&reply=true&df=true&hop_limit=1")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		q, err := control.ParseQuestion(v)
		if err != nil {
			return
		}
		if !q.Source.IsValid() || !q.Destination.IsValid() || q.Protocol != "icmp" && q.DestinationPort == nil || q.Source.Is4() && !q.Destination.Is4() {
			t.Errorf("%q is accepted as %+v", query, q)
		}
	})
}
