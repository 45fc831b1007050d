package daemon

import (
	"fmt"
	"strings"
	"testing"
)

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\nrest", "(hidden)\nrest"},
		{"-----BEGIN PRIVATE KEY-----\nMHcC cut off", "(hidden)"},
		{"nats://user:hunter2@192.0.2.1:4222", "nats://(hidden)@192.0.2.1:4222"},
		{"ha.password: hunter2\nnext: 1", "ha.password: (hidden)\nnext: 1"},
		{`{"api_token": "hunter2", "port": 1}`, `{"api_token": "(hidden)", "port": 1}`},
		{`msg="login" secret=hunter2 uid=0`, `msg="login" secret=(hidden) uid=0`},
		{"pool6: 64:ff9b::/96\nsessions.port_hash_fields: 15", "pool6: 64:ff9b::/96\nsessions.port_hash_fields: 15"},
	} {
		if got := withoutSecrets(tt.text); got != tt.want {
			t.Errorf("%q becomes %q, want %q", tt.text, got, tt.want)
		}
	}
}

// The tail of the log has the last lines, none of them cut, within bounds.
func TestLogTailKeepsLastLines(t *testing.T) {
	t.Parallel()
	var tail logTail
	for n := range 10_000 {
		fmt.Fprintf(&tail, "line %d %s\n", n, strings.Repeat("x", n%100))
		if len(tail.last) > 2*tailBytes {
			t.Fatalf("%d bytes", len(tail.last))
		}
	}
	text := tail.String()
	if len(text) < tailBytes/2 || !strings.HasPrefix(text, "line ") || !strings.HasSuffix(text, "line 9999 "+strings.Repeat("x", 99)+"\n") {
		t.Errorf("%d bytes, from %.20q", len(text), text)
	}
}
