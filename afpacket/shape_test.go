package afpacket_test

import (
	"nat64d/afpacket"
	"nat64d/gateway"
)

var _ gateway.Port = (*afpacket.Port)(nil)
