//go:build linux

package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// elementsPerMessage keeps a list of elements below 64 KiB, the maximum of a netlink attribute.
const elementsPerMessage = 500

// sendBuffer has room for the largest transaction: several hundred thousand elements.
const sendBuffer = 32 << 20

// connect returns a connection to the nftables of this thread's namespace.
func connect() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return nil, wrap("connect to", err)
	}
	return c, nil
}

// find is the description of the first operation, for wrap.
const find = "find"

// read reads the table from the kernel.
func read() (*layout, error) {
	c, err := connect()
	if err != nil {
		return nil, err
	}
	l := &layout{sets: map[string]*nftables.Set{}, elements: map[string][]nftables.SetElement{}}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		return nil, wrap(find, err)
	}
	i := slices.IndexFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName })
	if i < 0 {
		return l, nil
	}
	l.exists, l.flags = true, tables[i].Flags
	if l.chains, err = readChains(); err != nil {
		return l, wrap("read chains of", err)
	}
	for name, ch := range l.chains {
		rules, err := c.GetRules(table(), &nftables.Chain{Name: name})
		if err != nil {
			return l, wrap("read rules of", err)
		}
		for _, r := range rules {
			ch.rules = append(ch.rules, r.Exprs)
		}
		l.chains[name] = ch
	}
	sets, err := c.GetSets(table())
	if err != nil {
		return l, wrap("read sets of", err)
	}
	for _, s := range sets {
		l.sets[s.Name] = s
		if l.elements[s.Name], err = c.GetSetElements(s); err != nil {
			return l, wrap("read set "+s.Name+" of", err)
		}
	}
	return l, nil
}

// readChains reads the chains of the table without rules. The library's function omits the device.
func readChains() (map[string]chain, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	messages, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN, Flags: netlink.Request | netlink.Dump},
		Data:   []byte{unix.NFPROTO_NETDEV, unix.NFNETLINK_V0, 0, 0},
	})
	if err != nil {
		return nil, err
	}
	chains := map[string]chain{}
	for _, m := range messages {
		if len(m.Data) < nfgenmsg {
			continue
		}
		if err := parseChain(m.Data[nfgenmsg:], chains); err != nil {
			return nil, err
		}
	}
	return chains, nil
}

// nfgenmsg is the length of the header of every netfilter message.
const nfgenmsg = 4

// parseChain adds the chain that attributes describe if it belongs to the table.
func parseChain(attributes []byte, chains map[string]chain) error {
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	var in, name string
	var c chain
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_CHAIN_TABLE:
			in = d.String()
		case unix.NFTA_CHAIN_NAME:
			name = d.String()
		case unix.NFTA_CHAIN_TYPE:
			c.kind = d.String()
		case unix.NFTA_CHAIN_POLICY:
			c.policy = nftables.ChainPolicy(d.Uint32())
		case unix.NFTA_CHAIN_HOOK:
			d.Nested(func(h *netlink.AttributeDecoder) error { parseHook(h, &c); return nil })
		}
	}
	if in == tableName {
		chains[name] = c
	}
	return d.Err()
}

func parseHook(d *netlink.AttributeDecoder, c *chain) {
	for d.Next() {
		switch d.Type() {
		case unix.NFTA_HOOK_HOOKNUM:
			c.hook = nftables.ChainHook(d.Uint32())
		case unix.NFTA_HOOK_PRIORITY:
			c.priority = nftables.ChainPriority(d.Uint32())
		case unix.NFTA_HOOK_DEV:
			c.device = d.String()
		}
	}
}

// change is a transaction that changes the table to the wanted state. Correct chains stay hooked and correct elements
// stay in their sets, so packets covered before and after are dropped at all times.
type change struct {
	*nftables.Conn
	have, want *layout
	what       []string // differences found
}

// put changes the table from have to want, and describes the differences.
func put(have, want *layout) (differs []string, err error) {
	conn, err := connect()
	if err != nil {
		return nil, err
	}
	c := &change{Conn: conn, have: have, want: want}
	c.tableAndSets()
	c.chains()
	if len(c.what) == 0 {
		return nil, nil
	}
	return c.what, wrap("change", c.Flush())
}

// replace replaces the table. Between the deletion of the old chains and the addition of the new ones, packets may
// pass.
func replace(want *layout) error {
	conn, err := connect()
	if err != nil {
		return err
	}
	conn.AddTable(table()) // deleting a table that does not exist would fail
	conn.DelTable(table())
	c := &change{Conn: conn, have: &layout{}, want: want}
	c.tableAndSets()
	c.chains()
	return wrap("install", c.Flush())
}

func (c *change) differs(format string, a ...any) { c.what = append(c.what, fmt.Sprintf(format, a...)) }

func (c *change) tableAndSets() {
	if !c.have.exists || c.have.flags != c.want.flags {
		c.differs("table")
		c.AddTable(table()) // wakes up a dormant table
	}
	for _, name := range slices.Sorted(maps.Keys(c.want.sets)) {
		set := c.want.sets[name]
		if c.have.sets[name] == nil {
			c.differs("set %s", name)
			_ = c.AddSet(set, nil) // fails only for anonymous sets
		}
		come, gone := difference(c.have.elements[name], c.want.elements[name])
		if len(come)+len(gone) > 0 {
			c.differs("elements of set %s", name)
		}
		for i := range gone {
			gone[i].Comment = "" // not part of the key
		}
		for some := range slices.Chunk(gone, elementsPerMessage) {
			_ = c.SetDeleteElements(set, some)
		}
		for some := range slices.Chunk(come, elementsPerMessage) {
			_ = c.SetAddElements(set, some)
		}
	}
}

// chainNames lists the chains so that each comes after those that it jumps to.
var chainNames = []string{echo4, covered4, covered6, ingress4, ingress6}

func (c *change) chains() {
	for _, name := range chainNames {
		want, wanted := c.want.chains[name]
		have, has := c.have.chains[name]
		if has && !wanted && have.device != "" {
			continue // its interface is missing; since Linux 6.16 the chain waits for one of that name
		}
		if has && (!wanted || !have.hookedLike(&want)) {
			c.differs("chain %s", name)
			c.FlushChain(c.chain(name, &have))
			c.DelChain(c.chain(name, &have))
			have, has = chain{}, false
		}
		if !wanted {
			continue
		}
		ch := c.chain(name, &want)
		switch {
		case !has:
			c.differs("chain %s", name)
			c.AddChain(ch)
		case slices.EqualFunc(have.rules, want.rules, sameRule):
			continue
		default:
			c.differs("rules of chain %s", name)
			c.FlushChain(ch)
		}
		for _, r := range want.rules {
			c.AddRule(&nftables.Rule{Table: table(), Chain: ch, Exprs: r})
		}
	}
}

// hookedLike reports whether both chains process the same packets.
func (c *chain) hookedLike(d *chain) bool {
	return c.device == d.device && c.kind == d.kind && c.hook == d.hook && c.priority == d.priority && c.policy == d.policy
}

// chain returns a chain in the form of the library.
func (c *change) chain(name string, ch *chain) *nftables.Chain {
	n := &nftables.Chain{Name: name, Table: table()}
	if ch.device != "" {
		n.Type, n.Hooknum, n.Priority, n.Policy, n.Device = nftables.ChainType(ch.kind), &ch.hook, &ch.priority, &ch.policy, ch.device
	}
	return n
}

// sameRule reports whether two rules do the same. It ignores counters and the transaction-local number of a set.
func sameRule(a, b []expr.Any) bool {
	return slices.EqualFunc(a, b, func(x, y expr.Any) bool { return reflect.DeepEqual(bare(x), bare(y)) })
}

// bare returns an expression without the fields that sameRule ignores.
func bare(e expr.Any) expr.Any {
	switch e := e.(type) {
	case *expr.Counter:
		return &expr.Counter{}
	case *expr.Lookup:
		plain := *e
		plain.SetID = 0
		return &plain
	}
	return e
}

// difference returns the elements to add to have, and those to delete from it.
func difference(have, want []nftables.SetElement) (come, gone []nftables.SetElement) {
	key := func(e *nftables.SetElement) string {
		end := byte('0')
		if e.IntervalEnd {
			end = '1'
		}
		k := binary.BigEndian.AppendUint64(nil, uint64(e.Timeout))
		return string(slices.Concat(k, e.Key, []byte{end}, e.KeyEnd, []byte(e.Comment)))
	}
	old := make(map[string]bool, len(have))
	for i := range have {
		old[key(&have[i])] = true
	}
	for i := range want {
		if k := key(&want[i]); old[k] {
			delete(old, k)
		} else {
			come = append(come, want[i])
		}
	}
	for i := range have {
		if old[key(&have[i])] {
			gone = append(gone, have[i])
		}
	}
	return come, gone
}

// foreign reports whether the table has objects of other programs, or a set of another kind under one of the guard's
// names.
func (l *layout) foreign() bool {
	for name := range l.chains {
		if !slices.Contains(chainNames, name) {
			return true
		}
	}
	want := (&Guard{}).layout(ports{})
	for name, s := range l.sets {
		w := want.sets[name]
		if w == nil || s.KeyType.Bytes != w.KeyType.Bytes || s.Interval != w.Interval || s.Concatenation != w.Concatenation ||
			s.HasTimeout != w.HasTimeout || s.IsMap || s.Dynamic || s.Constant {
			return true
		}
	}
	return false
}

// added returns the ports that, according to the table, the guard added to the reserved ones.
func (l *layout) added() ports { return intervals(l.elements[reservedSet]) }

// kept returns the notes in the table.
func (l *layout) kept() map[int]string {
	notes := map[int]string{}
	for _, e := range l.elements[notesSet] {
		if len(e.Key) == 4 {
			notes[int(binary.NativeEndian.Uint32(e.Key))] = e.Comment
		}
	}
	return notes
}

// deleteTable deletes the table.
func deleteTable() error {
	c, err := connect()
	if err != nil {
		return err
	}
	c.DelTable(table())
	return wrap("delete", c.Flush())
}

// wrap adds to an error of nftables, which is a bare number, the failed operation and, if the kernel or the process
// lacks something, the remedy.
func wrap(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP),
		errors.Is(err, unix.EINVAL) && doing == find: // nfnetlink has no such subsystem
		return fmt.Errorf("nftables: %s table netdev %s: %w: this kernel has no nf_tables, or no netdev family, which prevent the host from "+
			"answering for pool4: load them (modprobe nf_tables; CONFIG_NF_TABLES, CONFIG_NF_TABLES_NETDEV), or set host.guard: false "+
			"and give pool4 addresses that the host does not have", doing, tableName, err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("nftables: %s table netdev %s: %w: it takes CAP_NET_ADMIN: run nat64d as root or by its systemd unit, which has CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF", doing, tableName, err)
	}
	return fmt.Errorf("nftables: %s table netdev %s: %w", doing, tableName, err)
}

// describe joins the differences to one sentence.
func describe(what []string) string { return strings.Join(slices.Compact(what), ", ") }
