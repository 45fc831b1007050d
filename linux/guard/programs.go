//go:build linux

package guard

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// programs are the second layer of the guard: BPF programs that drop the same packets as the table, before it. They
// cover the time between a deletion of the table by another program and its repair. The kernel detaches them when
// this process ends for any reason.
type programs struct {
	cover cover
	links map[int]link.Link // by the index of an interface
	err   error             // why programs are missing
}

// attach attaches programs that drop the same packets as the table. A program and its data never change; a new one
// replaces it atomically. Warnings reports programs that could not be attached.
func (g *Guard) attach() {
	if !g.o.Program {
		return
	}
	p := &g.programs
	families := map[int]families{}
	for i, index := range g.indexes {
		if index != 0 {
			f := families[index]
			f.v6, f.v4 = f.v6 || i == 0, f.v4 || i == 1
			f.all = f.all || i == 0 && g.o.All6 || i == 1 && g.o.All4
			families[index] = f
		}
	}
	same := reflect.DeepEqual(p.cover, g.cover)
	for index := range p.links {
		if _, wanted := families[index]; !wanted || !attached(p.links[index], index) {
			p.links[index].Close()
			delete(p.links, index)
		}
	}
	p.err = nil
	for index, f := range families {
		if same && p.links[index] != nil {
			continue
		}
		if err := p.put(index, f, &g.cover); err != nil {
			p.err = err
			g.programs.detachOne(index) // the old one would drop packets for the host
		}
	}
	p.cover = g.cover
}

// put attaches a program to an interface, or replaces the attached one.
func (p *programs) put(index int, f families, c *cover) error {
	program, err := newProgram(f, c)
	if err != nil {
		return err
	}
	defer program.Close() // the link keeps a reference
	if l := p.links[index]; l != nil {
		return l.Update(program)
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("attach to interface %d: %w", index, err)
	}
	if p.links == nil {
		p.links = map[int]link.Link{}
	}
	p.links[index] = l
	return nil
}

// attached reports whether a link is still attached: when an interface is deleted, its programs are detached.
func attached(l link.Link, index int) bool {
	info, err := l.Info()
	return err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index
}

// detach detaches all programs.
func (p *programs) detach() {
	for index := range p.links {
		p.detachOne(index)
	}
	p.cover, p.err = cover{}, nil
}

func (p *programs) detachOne(index int) {
	if l := p.links[index]; l != nil {
		l.Close()
		delete(p.links, index)
	}
}
