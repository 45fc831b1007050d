package control

import (
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// FuzzDecodeChange checks that a decoded change of any kind is encoded as the same change.
func FuzzDecodeChange(f *testing.F) {
	f.Add(`{"addresses":"192.0.2.1","ports":"7000-8000","protocols":["tcp"],"force":true}`)
	f.Add(`{"protocols":["tcp","udp"],"client":"[2001:db8::5]:80","mapped":"192.0.2.1:80"}`)
	f.Add(`{"key":"udp-timeout","value":"00:05:00","persist":true}`)
	f.Add(`{"prefix":"64:ff9b::/96"}`)
	f.Add(`{}null`)
	f.Fuzz(func(t *testing.T, text string) {
		thereAndBack[Pool4Change](t, text)
		thereAndBack[Pool6Change](t, text)
		thereAndBack[BindingChange](t, text)
		thereAndBack[ConfigChange](t, text)
	})
}

func thereAndBack[C changing](t *testing.T, text string) {
	c, err := decodeChange[C](strings.NewReader(text))
	if err != nil {
		return
	}
	again, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	d, err := decodeChange[C](strings.NewReader(string(again)))
	if err != nil || fmt.Sprint(d) != fmt.Sprint(c) {
		t.Errorf("%q: %+v became %+v, %v", text, c, d, err)
	}
}

// The examples in refusals are valid requests.
func TestExamplesAreValid(t *testing.T) {
	t.Parallel()
	example[Pool4Change](t)
	example[Pool6Change](t)
	example[BindingChange](t)
	example[ConfigChange](t)
	example[SessionChange](t)
}

func example[C changing](t *testing.T) {
	var c C
	if _, err := decodeChange[C](strings.NewReader(c.example())); err != nil || len(c.attrs()) == 0 {
		t.Errorf("%T: %s: %v", c, c.example(), err)
	}
}

// FuzzParseFilter checks that a decoded filter is encoded as the same filter.
func FuzzParseFilter(f *testing.F) {
	f.Add("protocol=tcp&protocol=udp&client=2001:db8::/64&peer=192.0.2.1&limit=3")
	f.Add("state=v4-init&state=TRANS&mapped=192.0.2.1%237000-7099&port=0&older=1h&sort=-idle")
	f.Add("mapped=192.0.2.0/24&port=443&sort=client")
	f.Add("client=fe80::1%25eth0/64&limit=00")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		filter, err := parseFilter(v, append([]string{"sort", "limit"}, sessionFilters...))
		if err != nil {
			return
		}
		if filter.Limit < 0 || filter.Client.IsValid() && !filter.Client.Addr().Is6() || filter.Peer.IsValid() && !filter.Peer.Addr().Is4() {
			t.Errorf("%q: %+v", query, filter)
		}
		again, err := parseFilter(filter.values(), append([]string{"sort", "limit"}, sessionFilters...))
		if err != nil || !reflect.DeepEqual(again, filter) {
			t.Errorf("%q: %+v became %+v, %v", query, filter, again, err)
		}
	})
}
