//go:build !linux

package table

import "errors"

const (
	pageSize = 4096
	keepStep = uint32(runLen)
)

func keptMapping(int) (*region, error)   { return nil, errors.ErrUnsupported }
func unmapKept([]byte)                   {}
func (k *kept) back(int, int, bool) bool { return false }
func (k *kept) leave(int, int)           {}
