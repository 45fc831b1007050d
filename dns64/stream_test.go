package dns64

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// One client cannot keep others out of TCP, whether its connections are idle or have a query under way.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	for name, first := range map[string][]byte{"idle": nil, "half a query": {0}, "busy": append([]byte{0, 12 + 11}, packed(t, "h.net.", nil)...)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := zone(t, a7)
			c := testConfig(t, startFake(t, func(w dns.ResponseWriter, q *dns.Msg) *dns.Msg {
				if same(q.Question[0].Name, "h.net.") {
					return nil
				}
				return answer(w, q)
			}).udp)
			c.InFlight = 2 * maxStreams
			_, server := serve(t, c)
			for range maxStreams + 50 {
				c, err := net.Dial("tcp", server)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = c.Write(first)
			}
			for range 3 {
				if got := brief(exchange(t, "tcp", server, nil, "h.example.com.", dns.TypeAAAA)); got != made7 {
					t.Errorf("got %s", got)
				}
			}
		})
	}
}

func TestIdleStreamsMakeWay(t *testing.T) {
	t.Parallel()
	with := func(since int64, busy int32) *stream {
		s := new(stream)
		s.since.Store(since)
		s.busy.Store(busy)
		return s
	}
	inOrder := []*stream{with(1, 0), with(2, 0), with(1, 3), with(2, 1)}
	for i := range inOrder[1:] {
		if !inOrder[i].idler(inOrder[i+1]) || inOrder[i+1].idler(inOrder[i]) {
			t.Errorf("stream %d does not make way for %d", i, i+1)
		}
	}
}
