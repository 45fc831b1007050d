package pool4

import "sync/atomic"

// blockLog calls Config.LogBlock.
type blockLog struct {
	f atomic.Pointer[func(b Block, ended bool)]
}

// configure replaces what is called; nil is nothing.
func (l *blockLog) configure(f func(b Block, ended bool)) {
	if f == nil {
		l.f.Store(nil)
		return
	}
	l.f.Store(&f)
}

// add reports that a block has got or lost its owner.
func (l *blockLog) add(b Block, ended bool) {
	if f := l.f.Load(); f != nil {
		(*f)(b, ended)
	}
}
