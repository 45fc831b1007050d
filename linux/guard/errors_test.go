//go:build linux

package guard

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestErrorsIncludeRemedy(t *testing.T) {
	for err, want := range map[error]string{
		unix.EPROTONOSUPPORT: "modprobe nf_tables", // no NETLINK_NETFILTER
		unix.EAFNOSUPPORT:    "CONFIG_NF_TABLES_NETDEV",
		unix.EOPNOTSUPP:      "host.guard: false",
		unix.EPERM:           "CAP_NET_ADMIN",
		unix.ENOSPC:          "no space left",
	} {
		got := wrap("install", fmt.Errorf("conn.Receive: %w", err))
		if !strings.Contains(got.Error(), want) || !errors.Is(got, err) {
			t.Errorf("%v: %q, want %q in it", err, got, want)
		}
	}
	if got := wrap(find, unix.EINVAL); !strings.Contains(got.Error(), "modprobe nf_tables") {
		t.Errorf("no nf_tables in nfnetlink: %v", got)
	}
	if err := wrap("install", nil); err != nil {
		t.Errorf("no error: %v", err)
	}
}
