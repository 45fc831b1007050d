// Package pool4 owns the IPv4 transport addresses of bindings and chooses a free one for each new binding (RFC 6146
// section 3.5.1.1, RFC 6056, RFC 6888).
package pool4

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nat64d/drop"
	"nat64d/packet"
)

// Pool is a set of IPv4 transport addresses with their use. Any goroutine may call its methods. Contains, Holds and Has
// take no lock. Allocate, Reserve, Release and Retire take the lock of one address and protocol for a fraction of a
// microsecond. Methods that change the set compute a new view and then publish it, so that packets never wait for them.
type Pool struct {
	key  sipKey
	view atomic.Pointer[view]
	conf atomic.Pointer[Config]
	held queue
	log  blockLog

	restedShort    atomic.Uint64
	holdingDownAll atomic.Bool // HoldDownAll is in effect: no UDP port or Identifier is chosen

	version atomic.Uint64
	avoided atomic.Pointer[avoided] // nil: none

	used [packet.Protos]atomic.Int64 // ports in use

	mu    sync.RWMutex // guards rows and rules; Add, Remove, Flush and SetRules hold it for writing
	rows  [packet.Protos]map[uint32]*row
	rules []Rule

	of *Pool // the pool that this one is a trial of, or nil
}

// Config is what may change while packets flow.
type Config struct {
	HoldDown time.Duration // of a UDP port or ICMP Identifier after its binding (RFC 6888 REQ-8); 0: none
	// RestAtLeast is the time after which a port in hold-down, the oldest of its address, can be chosen nevertheless when
	// no other is free; 0: never.
	RestAtLeast time.Duration
	// BlockSize is the number of consecutive ports of a Block. It is a power of two from MinBlock to MaxBlock, and
	// never changes; 0: there are no blocks.
	BlockSize int
	// LogBlock is called, under the lock of one address, with each block that gets or loses its owner, so it must neither
	// wait nor call the pool; may be nil.
	LogBlock func(b Block, ended bool)
	MaxHeld  int    // of ports that are held down; beyond it the oldest are freed; 0: no limit
	Fields   Fields // of a flow on which the choice of a port depends
}

// Fields selects the parts of a flow that the keyed hash F of RFC 6056 section 3.3.3 covers: a sum of the bits below.
// With fewer fields, more flows share a sequence of ports.
type Fields uint8

// The fields of a flow, with the values of Jool's f-args.
const (
	PeerPort Fields = 1 << iota
	PeerAddress
	ClientPort
	ClientAddress
	AllFields = PeerPort | PeerAddress | ClientPort | ClientAddress
)

// New returns an empty pool, which is valid: Allocate returns drop.PoolEmpty. The key is the secret of RFC 6056
// section 3.3.3, 16 bytes from a cryptographic source.
func New(key [16]byte) *Pool {
	p := &Pool{key: newSipKey(key)}
	for proto := range p.rows {
		p.rows[proto] = make(map[uint32]*row)
	}
	p.view.Store(p.newViewLocked())
	p.Configure(Config{Fields: AllFields})
	return p
}

// Configure replaces the configuration. Initially there is no hold-down, and the hash covers all fields. A new
// hold-down applies to ports that are held already, too.
func (p *Pool) Configure(c Config) {
	p.conf.Store(&c)
	p.log.configure(c.LogBlock)
}

// Contains reports whether a transport address is in the pool, free or in use.
func (p *Pool) Contains(proto packet.Proto, e packet.Endpoint4) bool {
	a := &p.view.Load()[proto]
	i, ok := a.find(binary.BigEndian.Uint32(e.Addr[:]))
	return ok && covers(a.spans[i], span{e.Port, e.Port})
}

// Holds reports whether the pool has ports of an address for a protocol.
func (p *Pool) Holds(proto packet.Proto, addr packet.Addr4) bool {
	_, ok := p.view.Load()[proto].find(binary.BigEndian.Uint32(addr[:]))
	return ok
}

// Has reports whether the pool has ports of an address for any protocol.
func (p *Pool) Has(addr packet.Addr4) bool {
	for proto := range packet.Protos {
		if p.Holds(proto, addr) {
			return true
		}
	}
	return false
}

// Version returns a number that changes with every change of what Contains, Holds and Has return.
func (p *Pool) Version() uint64 { return p.version.Load() }

// Request describes the flow for which Allocate chooses a transport address.
type Request struct {
	Proto  packet.Proto
	Client packet.Endpoint6
	Remote packet.Endpoint4 // destination of the first packet
	Paired packet.Addr4     // the address of the client's other bindings; zero if none
	Owner  packet.Addr6     // of the port blocks; ignored without Config.BlockSize

	// Wanted are preferred transport addresses: Allocate takes the first that is free, on the client's address if it
	// has one, and in the class of its port. A simultaneous open (RFC 6146 section 3.5.2.2) succeeds only there.
	Wanted []packet.Endpoint4

	Exact packet.Endpoint4 // the only transport address to take; of address zero: any
}

// Allocate takes a free transport address. A client that has an address gets a port of that address or none (RFC 6888
// REQ-2, no soft pairing), unless the pool does not hold the address for this protocol. A keyed hash of its IPv6
// address selects the address of a new client; if that is full, the client gets the next one with a free port. If no port
// is free, Config.RestAtLeast can end the hold-down of one. The
// reason is drop.PoolEmpty or drop.PoolExhausted if there is none, or drop.PoolResting after HoldDownAll.
func (p *Pool) Allocate(q Request) (packet.Endpoint4, drop.Reason) {
	a := &p.view.Load()[q.Proto]
	if q.Exact.Addr != (packet.Addr4{}) {
		owner := p.blockOwner(&q)
		return a.takeExact(&q, &owner)
	}
	g := a.groupOf(q.Client.Addr)
	switch {
	case g.size(len(a.addrs)) == 0:
		return packet.Endpoint4{}, drop.PoolEmpty
	case q.Proto != packet.TCP && p.holdingDownAll.Load():
		return packet.Endpoint4{}, drop.PoolResting
	}
	f, owner := p.offset(&q), p.blockOwner(&q)
	e, r := p.allocateFree(a, g, &q, f, &owner)
	if r == drop.PoolExhausted && q.Proto != packet.TCP && p.conf.Load().RestAtLeast != 0 {
		return p.allocateResting(a, g, &q, f, &owner)
	}
	return e, r
}

// allocateFree is Allocate without the ports in hold-down.
func (p *Pool) allocateFree(a *addresses, g *group, q *Request, f uint64, owner *blockOwner) (packet.Endpoint4, drop.Reason) {
	paired, ok := a.find(binary.BigEndian.Uint32(q.Paired[:]))
	ok = ok && g.has(paired)
	for _, e := range q.Wanted {
		if i, in := a.find(binary.BigEndian.Uint32(e.Addr[:])); in && g.has(i) && (!ok || i == paired) && a.claim(i, q, e.Port, owner) {
			return e, drop.None
		}
	}
	avoid := p.avoided.Load()
	if ok && !avoid.has(a.addrs[paired]) {
		return a.allocate(paired, q, f, owner)
	}
	e, r := a.spread(g, q, f, owner, p, avoid)
	switch {
	case r == drop.None || avoid == nil:
		return e, r
	case ok:
		return a.allocate(paired, q, f, owner)
	}
	return a.spread(g, q, f, owner, p, nil)
}

// spread allocates a port to a client that has no address, or that leaves its address.
func (a *addresses) spread(g *group, q *Request, f uint64, owner *blockOwner, p *Pool, avoid *avoided) (packet.Endpoint4, drop.Reason) {
	start := p.start(q.Client.Addr)
	if owner.blockSize != 0 { // all addresses of the owner share its blocks, which can have room when no block is free
		start = p.start(q.Owner)
		if i := g.index(g.place(start, len(a.addrs))); !avoid.has(a.addrs[i]) {
			if e, r := a.allocate(i, q, f, owner); r == drop.None {
				return e, r
			}
		}
	}
	return a.search(g, g.index(g.place(start, len(a.addrs))), q, f, owner, avoid)
}

// avoided is a sorted list of addresses that new bindings do not get while others have free ports.
type avoided []uint32

func (l *avoided) has(n uint32) bool {
	if l == nil {
		return false
	}
	_, found := slices.BinarySearch(*l, n)
	return found
}

// Avoids reports whether new bindings avoid an address.
func (p *Pool) Avoids(addr packet.Addr4) bool {
	return p.avoided.Load().has(binary.BigEndian.Uint32(addr[:]))
}

// Avoid makes new bindings use other addresses than these, as long as others have free ports: IPv4 hosts cannot reach
// these at present. A client whose address is avoided gets another one for its next bindings. Existing bindings stay.
func (p *Pool) Avoid(addrs []netip.Addr) {
	var l avoided
	for _, a := range addrs {
		l = append(l, numOf(a))
	}
	slices.Sort(l)
	old := p.avoided.Load()
	switch {
	case len(l) == 0:
		p.avoided.Store(nil)
	case old == nil || !slices.Equal(*old, l):
		p.avoided.Store(&l)
	}
}

// search allocates a port of the first address of a group from start on that has a free port.
func (a *addresses) search(g *group, start int, q *Request, f uint64, owner *blockOwner, avoid *avoided) (packet.Endpoint4, drop.Reason) {
	for i := a.withFree.from(start, g.set()); i >= 0; i = a.withFree.from(i+1, g.set()) {
		if avoid.has(a.addrs[i]) {
			continue
		}
		if e, r := a.allocate(i, q, f, owner); r == drop.None {
			return e, r
		}
	}
	for i := a.withFree.from(0, g.set()); i >= 0 && i < start; i = a.withFree.from(i+1, g.set()) {
		if avoid.has(a.addrs[i]) {
			continue
		}
		if e, r := a.allocate(i, q, f, owner); r == drop.None {
			return e, r
		}
	}
	return packet.Endpoint4{}, drop.PoolExhausted
}

// offset is F of RFC 6056 section 3.3.3.
func (p *Pool) offset(q *Request) uint64 {
	fields := p.conf.Load().Fields
	var c packet.Addr6
	var ports, remote uint64
	if fields&ClientAddress != 0 {
		c = q.Client.Addr
	}
	if fields&ClientPort != 0 {
		ports |= uint64(q.Client.Port) << 16
	}
	if fields&PeerAddress != 0 {
		remote = uint64(binary.BigEndian.Uint32(q.Remote.Addr[:])) << 32
	}
	if fields&PeerPort != 0 {
		ports |= uint64(q.Remote.Port)
	}
	return p.key.sum(binary.BigEndian.Uint64(c[:8]), binary.BigEndian.Uint64(c[8:]), remote|ports)
}

// start is the hash that selects the address of a new client.
func (p *Pool) start(c packet.Addr6) uint64 {
	return p.key.sum(binary.BigEndian.Uint64(c[:8]), binary.BigEndian.Uint64(c[8:]))
}

// blockOwner returns the client that gets a port, and the parameters of its port blocks.
func (p *Pool) blockOwner(q *Request) blockOwner {
	return blockOwner{client: q.Owner, blockSize: p.conf.Load().BlockSize, proto: q.Proto, log: &p.log}
}

func (a *addresses) claim(i int, q *Request, port uint16, owner *blockOwner) bool {
	owner.addr = a.addrs[i]
	return (port < chunkPorts) == (q.Client.Port < chunkPorts) && a.row(i).claim(port, owner)
}

func (a *addresses) allocate(i int, q *Request, f uint64, owner *blockOwner) (packet.Endpoint4, drop.Reason) {
	owner.addr = a.addrs[i]
	port, ok := a.row(i).allocate(q.Proto, q.Client.Port, f, owner)
	if !ok {
		return packet.Endpoint4{}, drop.PoolExhausted
	}
	return packet.Endpoint4{Addr: addr4Of(a.addrs[i]), Port: port}, drop.None
}

// Reserve takes one transport address for a static binding. The pool must have the address, for any protocol; it need
// not have the port.
func (p *Pool) Reserve(proto packet.Proto, e packet.Endpoint4) error {
	if e.Port == 0 && proto != packet.ICMP {
		return fmt.Errorf("pool4: %v has no port 0: the lowest is 1", proto)
	}
	n := binary.BigEndian.Uint32(e.Addr[:])
	p.mu.Lock()
	defer p.mu.Unlock()
	held := false
	for i := range p.rows {
		r := p.rows[i][n]
		held = held || r != nil && len(r.spans) > 0
	}
	if !held {
		return fmt.Errorf("pool4: %v is not in pool4: add it with a range of ports first", netip.AddrFrom4(e.Addr))
	}
	r := p.rows[proto][n]
	if r == nil {
		r = &row{used: &p.used[proto]}
		p.rows[proto][n] = r
	}
	if !r.reserve(e.Port) {
		return fmt.Errorf("pool4: %v %v is in use: choose another port, or end the binding that has it", proto, netip.AddrPortFrom(netip.AddrFrom4(e.Addr), e.Port))
	}
	return nil
}

// Release gives back a transport address of Allocate or Reserve. Allocate may choose it again at once.
func (p *Pool) Release(proto packet.Proto, e packet.Endpoint4) {
	n := binary.BigEndian.Uint32(e.Addr[:])
	if p.row(proto, n).release(e.Port) {
		p.deleteIfUnused(proto, n)
	}
}

// Retire gives back a transport address of Allocate that packets have used. A UDP port or ICMP Identifier is held down
// first: for Config.HoldDown only static bindings can get it, and others by Config.RestAtLeast; a static one that takes it meanwhile does not prolong the
// hold-down. RFC 6888 REQ-8 exempts TCP, whose state is tracked.
func (p *Pool) Retire(proto packet.Proto, e packet.Endpoint4) {
	if proto == packet.TCP || p.conf.Load().HoldDown == 0 {
		p.Release(proto, e)
		return
	}
	n := binary.BigEndian.Uint32(e.Addr[:])
	var oldest heldPort
	var over bool
	p.row(proto, n).holdDown(e.Port, func(owner packet.Addr6) (seq uint32) {
		seq, oldest, over = p.held.push(heldPort{addr: n, port: e.Port, proto: proto, owner: owner}, p.conf.Load().MaxHeld)
		return seq
	})
	if over {
		p.endHoldDown(oldest)
	}
}

// HoldDownAll holds down all UDP ports and Identifiers, those that are added later included, until Config.HoldDown
// after the gateway's start, because the gateway does not know which of them had bindings before (RFC 6888 REQ-8).
// Static bindings can take them.
func (p *Pool) HoldDownAll() { p.holdingDownAll.Store(true) }

// HoldingDownAll reports whether HoldDownAll is still in effect.
func (p *Pool) HoldingDownAll() bool { return p.holdingDownAll.Load() }

// Expire sets the ports free whose hold-down is over, budget of them at most, and returns whether there are more. It is
// for one goroutine. The time is that since the gateway's start; a port's hold-down begins with the first call after it
// was given back.
func (p *Pool) Expire(now time.Duration, budget int) (more bool) {
	c := p.conf.Load()
	if now > c.HoldDown && p.holdingDownAll.Load() {
		p.holdingDownAll.Store(false)
	}
	ports, more := p.held.pop(now, c.HoldDown, c.MaxHeld, budget)
	for _, h := range ports {
		p.endHoldDown(h)
	}
	return more
}

// endHoldDown frees a port that has left the queue.
func (p *Pool) endHoldDown(h heldPort) {
	if p.row(h.proto, h.addr).endHoldDown(h.port, h.seq) {
		p.deleteIfUnused(h.proto, h.addr)
	}
}

// row returns the row of an address that has ports in use or held down. It takes the lock only if the address has left
// the pool.
func (p *Pool) row(proto packet.Proto, n uint32) *row {
	a := &p.view.Load()[proto]
	if i, ok := a.find(n); ok {
		return a.row(i)
	}
	if p.of != nil { // nothing is chosen there
		return p.of.row(proto, n).clone(&p.used[proto])
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.rows[proto][n]
}

// deleteIfUnused deletes the row of an address that left the pool, once its last port is free.
func (p *Pool) deleteIfUnused(proto packet.Proto, n uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.rows[proto][n]; r != nil && r.unused() {
		delete(p.rows[proto], n)
	}
}

// Free returns the number of transport addresses of a protocol that Allocate can choose, and the number that the pool
// has. It takes the lock of each address for a moment.
func (p *Pool) Free(proto packet.Proto) (free, all int) {
	a := &p.view.Load()[proto]
	for i, r := range a.rows {
		n := size(a.spans[i])
		free += r.free(n)
		all += n
	}
	return free, all
}

// InUse returns the number of transport addresses of a protocol that are in use, static ones included, and the number that
// the pool has. It takes no lock.
func (p *Pool) InUse(proto packet.Proto) (used, all int) {
	return int(p.used[proto].Load()), p.view.Load()[proto].total
}

// Addresses returns the addresses that the pool holds for any protocol, sorted. It takes no lock.
func (p *Pool) Addresses() (list []netip.Addr) {
	v := p.view.Load()
	for proto := range v {
		for _, n := range v[proto].addrs {
			list = append(list, addrOf(n))
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// Entries returns the ranges of the pool, merged, and sorted by address, protocol and port. It takes no lock.
func (p *Pool) Entries() (list []Entry) {
	v := p.view.Load()
	for proto := range v {
		for i, spans := range v[proto].spans {
			for _, s := range spans {
				list = append(list, rowKey{packet.Proto(proto), v[proto].addrs[i]}.entry(s))
			}
		}
	}
	slices.SortFunc(list, Entry.Compare)
	return list
}

// Usage returns the entries of the pool, in the order of Entries, with the number of ports in use. It takes the lock of each
// address for a moment.
func (p *Pool) Usage() (list []Usage) {
	v := p.view.Load()
	for proto := range v {
		for i, r := range v[proto].rows {
			spans, used, held := r.usage()
			for j, s := range spans {
				list = append(list, Usage{rowKey{packet.Proto(proto), v[proto].addrs[i]}.entry(s), used[j], held[j]})
			}
		}
	}
	slices.SortFunc(list, func(a, b Usage) int { return a.Compare(b.Entry) })
	return list
}

// RowUsage returns the use of each address for each protocol, sorted by address and protocol. It takes the lock of each address
// for a moment.
func (p *Pool) RowUsage() (list []RowUsage) {
	v := p.view.Load()
	for proto := range v {
		for i, r := range v[proto].rows {
			u := r.total()
			u.Addr, u.Proto = rowKey{packet.Proto(proto), v[proto].addrs[i]}.entry(span{}).Addr, packet.Proto(proto)
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b RowUsage) int { return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto)) })
	return list
}
