//go:build linux

package cpus

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Reader reads where the kernel receives packets. The zero Reader reads the machine; tests set another root. It is not safe
// for concurrent use.
type Reader struct {
	Root string         // of the tree that contains /proc; empty: that of the machine
	last map[int]uint64 // the counters that Quiet has read last
	load map[int]uint64 // growth of these counters, halved with each look
}

func (r *Reader) proc(name string) string { return filepath.Join(r.Root, "/proc", name) }

// NIC reads how a NIC receives. sysfs is its directory in /sys/class/net, or empty. A file that is missing, as in a container without
// /sys, counts as an empty set.
func (r *Reader) NIC(name, sysfs string) NIC {
	n := NIC{Name: name}
	r.add(&n, name, sysfs, mostLayers)
	return n
}

// mostLayers limits how deep virtual NICs may be stacked: our own choice. A VLAN of a bond has three layers.
const mostLayers = 4

// add adds the processors of one of the layers that n consists of, and of those below: a VLAN receives where its parent
// does.
func (r *Reader) add(n *NIC, name, sysfs string, layers int) {
	if sysfs == "" || layers == 0 {
		return
	}
	queues, _ := filepath.Glob(filepath.Join(sysfs, "queues/rx-*/rps_cpus")) // the pattern is well-formed
	for _, path := range queues {
		if text, err := os.ReadFile(path); err == nil {
			mask, _ := ParseMask(string(text)) // of a kernel with more processors than a Set has room for: not steered
			n.Steered = n.Steered.Or(mask)
		}
	}
	for _, irq := range r.interrupts(name, sysfs) {
		n.Interrupts = n.Interrupts.Or(r.delivered(irq))
	}
	lower, _ := filepath.Glob(filepath.Join(sysfs, "lower_*")) // the pattern is well-formed
	for _, path := range lower {
		r.add(n, strings.TrimPrefix(filepath.Base(path), "lower_"), path, layers-1)
	}
}

// delivered returns the processors that an interrupt is delivered to.
func (r *Reader) delivered(irq int) Set {
	for _, file := range []string{"effective_affinity_list", "smp_affinity_list"} {
		text, err := os.ReadFile(r.proc(fmt.Sprintf("irq/%d/%s", irq, file)))
		if err != nil {
			continue
		}
		if set, err := ParseList(string(text)); err == nil && !set.Empty() {
			return set
		}
	}
	return Set{}
}

// interrupts returns the interrupts that announce received packets of a NIC.
func (r *Reader) interrupts(name, sysfs string) []int {
	device, err := filepath.EvalSymlinks(filepath.Join(sysfs, "device"))
	if err != nil {
		return nil // virtual, like a veth: it has no interrupts
	}
	text, err := os.ReadFile(r.proc("interrupts"))
	if err != nil {
		return nil
	}
	own := vectors(device)
	rows := slices.DeleteFunc(ParseInterrupts(text), func(i Interrupt) bool {
		return !slices.Contains(own, i.Number) && !i.named(name) && !i.named(filepath.Base(device))
	})
	if receiving := slices.DeleteFunc(slices.Clone(rows), func(i Interrupt) bool { return i.Count == 0 || i.other() }); len(receiving) > 0 {
		rows = receiving
	}
	numbers := make([]int, len(rows))
	for n := range rows {
		numbers[n] = rows[n].Number
	}
	return numbers
}

// vectors returns the interrupts of a device, or of its parent if it has none: a virtio device is the child of a PCI function.
func vectors(device string) (numbers []int) {
	for _, dir := range []string{device, filepath.Dir(device)} {
		names, _ := filepath.Glob(filepath.Join(dir, "msi_irqs/*")) // the pattern is well-formed
		for _, path := range names {
			if n, err := strconv.Atoi(filepath.Base(path)); err == nil {
				numbers = append(numbers, n)
			}
		}
		_, err := os.Stat(filepath.Join(dir, "irq"))
		if len(numbers) > 0 || err == nil { // a PCI function without MSI: its parent is a bridge
			return numbers
		}
	}
	return nil
}

// Interrupt is a row of /proc/interrupts.
type Interrupt struct {
	Number int
	Count  uint64 // on all processors
	Names  string // of the actions, after the controller and the kind
}

// ParseInterrupts parses /proc/interrupts. It skips rows of interrupts that have no number, such as NMI.
func ParseInterrupts(text []byte) (rows []Interrupt) {
	head, body, _ := bytes.Cut(text, []byte("\n"))
	processors := len(bytes.Fields(head))
	for line := range bytes.Lines(body) {
		number, rest, _ := strings.Cut(string(line), ":")
		n, err := strconv.Atoi(strings.TrimSpace(number))
		fields := strings.Fields(rest)
		if err != nil || n < 0 || len(fields) < processors {
			continue
		}
		row := Interrupt{Number: n, Names: strings.Join(fields[processors:], " ")}
		for _, f := range fields[:processors] {
			count, _ := strconv.ParseUint(f, 10, 64) // the kernel writes numbers
			row.Count += count
		}
		rows = append(rows, row)
	}
	return rows
}

// named reports whether an action of the interrupt is that of a device: its name alone, or with a suffix as in eth0-rx-1.
func (i *Interrupt) named(device string) bool {
	for word := range strings.FieldsFuncSeq(i.Names, func(c rune) bool { return c == ' ' || c == ',' }) {
		rest, ok := strings.CutPrefix(word, device)
		if ok && (rest == "" || rest[0] == '-' || rest[0] == ':' || rest[0] == '@') {
			return true
		}
	}
	return false
}

// other reports whether the interrupt has another purpose than receiving, by the names that drivers give it.
func (i *Interrupt) other() bool {
	return slices.ContainsFunc([]string{"-tx-", "-output", "-config", "-control", "_async", "-mgmnt"}, func(part string) bool {
		return strings.Contains(i.Names, part)
	})
}
