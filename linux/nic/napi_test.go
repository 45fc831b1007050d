//go:build linux

package nic

import (
	"testing"

	"github.com/mdlayher/netlink"
)

func FuzzDecodeNAPI(f *testing.F) {
	e := netlink.NewAttributeEncoder()
	e.Uint32(napiID, 513)
	e.Uint32(napiPID, 4711)
	e.Uint32(napiThreaded, 1)
	whole, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	if n, err := decodeNAPI(whole); err != nil || n != (napi{id: 513, pid: 4711, threaded: 1, known: true}) {
		f.Fatalf("decoded as %+v (%v)", n, err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = decodeNAPI(data) }) // must not panic
}
