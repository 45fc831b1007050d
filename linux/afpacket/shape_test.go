//go:build linux

package afpacket_test

import (
	"nat64d/gateway"
	"nat64d/linux/afpacket"
)

var _ gateway.Port = (*afpacket.Port)(nil)
