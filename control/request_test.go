package control

import (
	"encoding/json"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func FuzzDecodeChange(f *testing.F) {
	f.Add(`{"addresses":"192.0.2.1","ports":"7000-8000","protocols":["tcp"],"force":true}`)
	f.Add(`{}null`)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := decodeChange[Pool4Change](strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		d, err := decodeChange[Pool4Change](strings.NewReader(string(again)))
		if err != nil || d.Addresses != c.Addresses || d.Ports != c.Ports || len(d.Protocols) != len(c.Protocols) || d.Force != c.Force {
			t.Errorf("%q: %+v became %+v, %v", text, c, d, err)
		}
	})
}

// FuzzParseFilter checks that what a server accepts is what the client meant.
func FuzzParseFilter(f *testing.F) {
	f.Add("protocol=tcp&protocol=udp&client=2001:db8::/64&peer=192.0.2.1&limit=3")
	f.Add("client=fe80::1%25eth0/64&limit=00")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		filter, err := parseFilter(v)
		if err != nil {
			return
		}
		if filter.Limit < 0 || filter.Client.IsValid() && !filter.Client.Addr().Is6() || filter.Peer.IsValid() && !filter.Peer.Addr().Is4() {
			t.Errorf("%q: %+v", query, filter)
		}
		again, err := parseFilter(filter.values())
		if err != nil || !reflect.DeepEqual(again, filter) {
			t.Errorf("%q: %+v became %+v, %v", query, filter, again, err)
		}
	})
}
