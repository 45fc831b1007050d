//go:build linux

package guard

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// programs are the second layer of the guard: BPF programs that drop what the table drops, at the same place, before it. They
// are there for the moments in which somebody has deleted the table. The kernel detaches them when this process ends, whatever
// ends it.
type programs struct {
	cover cover
	links map[int]link.Link // by the index of an interface
	err   error             // why there are none
}

// attach has programs drop what the table should drop. A program with its data is never changed: the next one takes its place
// at once. What cannot be attached is missing, and Warnings says so.
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
			g.programs.detachOne(index) // an old one would drop what is the host's again
		}
	}
	p.cover = g.cover
}

// put attaches a program to an interface, or puts it in the place of the one that is there.
func (p *programs) put(index int, f families, c *cover) error {
	program, err := newProgram(f, c)
	if err != nil {
		return err
	}
	defer program.Close() // the link holds it
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

// attached reports whether a link is still at its interface: an interface takes its programs with it.
func attached(l link.Link, index int) bool {
	info, err := l.Info()
	return err == nil && info.TCX() != nil && int(info.TCX().Ifindex) == index
}

// detach takes all programs away.
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
