package session

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"nat64d/bib"
	"nat64d/packet"
	"nat64d/pool4"
	"nat64d/table"
)

// RecordKind is the kind of a Record.
type RecordKind uint8

// The kinds of records. Restore installs static bindings, sessions and held ports. Dynamic bindings exist with their
// sessions and port blocks with their ports, so Restore only checks that these exist again, which is so if records are
// restored in the order of Records.
const (
	BindingRecord RecordKind = iota + 1
	SessionRecord
	HeldRecord  // a port or Identifier in hold-down
	BlockRecord // a port block
)

// Record is one row of the tables. It is self-contained: it names the prefix and not its number, which another gateway, or
// this one after a restart, may give to another prefix, and its times are relative.
type Record struct {
	Kind   RecordKind
	Proto  packet.Proto
	Client packet.Endpoint6 // of a BlockRecord and an owned HeldRecord the address is the client's prefix
	Mapped packet.Endpoint4 // of a BlockRecord with its first port
	Static bool             // of a binding

	// Remaining is the remaining lifetime of a session, or the remaining hold-down of a port. A store of records
	// subtracts the time that passes; below zero the record has expired.
	Remaining time.Duration

	// Of a session.
	Remote     packet.Endpoint4
	Prefix     netip.Prefix // the NAT64 prefix that the client used last
	State      State
	Lifetime   uint8     // which of the timeouts applies, as in word
	Inbound    bool      // an IPv4 host has opened it
	Unanswered bool      // the client has not answered an inbound session
	Windows    [2]uint64 // of the client and of the remote, as in window; 0: unknown

	Owned    bool   // of a HeldRecord: it lies in a block of Client
	LastPort uint16 // of a BlockRecord
}

const (
	recordVersion = 1
	recordLen     = 82
)

// The bits of a record's flags.
const (
	flagStatic = 1 << iota
	flagInbound
	flagUnanswered
	flagOwned
	flagPrefix
	recordFlags
)

// AppendBinary appends the encoding of a record to b: 82 bytes in network byte order.
//
//	0 version   1 kind      2 length (2)   4 protocol   5 flags   6 state   7 lifetime
//	8 client (16), port (2)   26 mapped (4), port (2)   32 remote (4), port (2)   38 last port (2)
//	40 remaining in nanoseconds (8)   48 prefix (16), its length (1), zero (1)   66 windows (8, 8)
func (r *Record) AppendBinary(b []byte) []byte {
	flags := byte(0)
	for bit, set := range map[byte]bool{flagStatic: r.Static, flagInbound: r.Inbound, flagUnanswered: r.Unanswered, flagOwned: r.Owned, flagPrefix: r.Prefix.IsValid()} {
		if set {
			flags |= bit
		}
	}
	b = append(b, recordVersion, byte(r.Kind))
	b = binary.BigEndian.AppendUint16(b, recordLen)
	b = append(b, byte(r.Proto), flags, byte(r.State), r.Lifetime)
	b = append(b, r.Client.Addr[:]...)
	b = binary.BigEndian.AppendUint16(b, r.Client.Port)
	for _, e := range []packet.Endpoint4{r.Mapped, r.Remote} {
		b = append(b, e.Addr[:]...)
		b = binary.BigEndian.AppendUint16(b, e.Port)
	}
	b = binary.BigEndian.AppendUint16(b, r.LastPort)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Remaining))
	prefix, bits := [16]byte{}, byte(0)
	if r.Prefix.IsValid() {
		prefix, bits = r.Prefix.Addr().As16(), byte(r.Prefix.Bits())
	}
	b = append(append(b, prefix[:]...), bits, 0)
	b = binary.BigEndian.AppendUint64(b, r.Windows[0])
	return binary.BigEndian.AppendUint64(b, r.Windows[1])
}

// DecodeRecord decodes the record at the beginning of b and returns its length.
func DecodeRecord(b []byte) (r Record, n int, err error) {
	switch {
	case len(b) < recordLen:
		return r, 0, fmt.Errorf("session: a record of %d bytes is cut: it has %d", len(b), recordLen)
	case b[0] != recordVersion:
		return r, 0, fmt.Errorf("session: a record of version %d: only version %d is known", b[0], recordVersion)
	case binary.BigEndian.Uint16(b[2:]) != recordLen:
		return r, 0, fmt.Errorf("session: a record of length %d: version %d has %d", binary.BigEndian.Uint16(b[2:]), recordVersion, recordLen)
	case b[5] >= recordFlags || b[65] != 0:
		return r, 0, errors.New("session: a record with unknown flags")
	}
	flags := b[5]
	r = Record{
		Kind: RecordKind(b[1]), Proto: packet.Proto(b[4]), State: State(b[6]), Lifetime: b[7],
		Client:    packet.Endpoint6{Addr: packet.Addr6(b[8:24]), Port: binary.BigEndian.Uint16(b[24:])},
		Mapped:    packet.Endpoint4{Addr: packet.Addr4(b[26:30]), Port: binary.BigEndian.Uint16(b[30:])},
		Remote:    packet.Endpoint4{Addr: packet.Addr4(b[32:36]), Port: binary.BigEndian.Uint16(b[36:])},
		LastPort:  binary.BigEndian.Uint16(b[38:]),
		Remaining: time.Duration(binary.BigEndian.Uint64(b[40:])),
		Static:    flags&flagStatic != 0, Inbound: flags&flagInbound != 0, Unanswered: flags&flagUnanswered != 0, Owned: flags&flagOwned != 0,
		Windows: [2]uint64{binary.BigEndian.Uint64(b[66:]), binary.BigEndian.Uint64(b[74:])},
	}
	if flags&flagPrefix != 0 {
		r.Prefix = netip.PrefixFrom(netip.AddrFrom16([16]byte(b[48:64])), int(b[64]))
		if r.Prefix.Addr().Is4In6() || r.Prefix != r.Prefix.Masked() {
			return r, 0, fmt.Errorf("session: a record with prefix %v: it must be an IPv6 prefix without host bits", r.Prefix)
		}
	} else if [17]byte(b[48:65]) != [17]byte{} {
		return r, 0, errors.New("session: a record with a prefix that its flags deny")
	}
	return r, recordLen, r.check()
}

// check returns an error if a record contradicts itself.
func (r *Record) check() error {
	switch {
	case r.Kind < BindingRecord || r.Kind > BlockRecord:
		return fmt.Errorf("session: a record of kind %d: there are 1 to %d", r.Kind, BlockRecord)
	case r.Proto >= packet.Protos:
		return fmt.Errorf("session: a record of protocol %d", r.Proto)
	case r.Kind == SessionRecord:
		return r.checkSession()
	case r.State != Closed || r.Lifetime != 0 || r.Inbound || r.Unanswered || r.Windows != [2]uint64{}:
		return errors.New("session: a record that is not of a session, but has a state, a lifetime or windows")
	}
	return nil
}

func (r *Record) checkSession() error {
	life := lifetime(r.Lifetime)
	tcp := r.State > Active && r.State < states && life > lifeICMP && life < lifetimes && life != lifeAnswered
	udp := r.State == Active && (life == lifeUDP || life == lifeAnswered && shortLived(r.Remote.Port))
	switch {
	case r.Proto == packet.TCP && !tcp,
		r.Proto == packet.UDP && !udp,
		r.Proto == packet.ICMP && (r.State != Active || life != lifeICMP):
		return fmt.Errorf("session: a record of a %v session in state %d with lifetime %d", r.Proto, r.State, r.Lifetime)
	case r.Unanswered && !r.Inbound:
		return errors.New("session: a record of a session that is unanswered, but not begun by an IPv4 host")
	case !r.Prefix.IsValid():
		return errors.New("session: a record of a session without a prefix")
	case windowWord(r.Windows[0])>>53 != 0 || windowWord(r.Windows[1])>>53 != 0:
		return errors.New("session: a record of a session with unknown bits in its windows")
	}
	return nil
}

// The passes of Records, in the order in which Restore needs what they return.
const (
	staticBindings = iota
	allSessions
	heldPorts
	dynamicBindings
	portBlocks
	passes
)

const passShift = 58

// Records copies the tables into buf, from a cursor on that is 0 at first, and returns the number of records and the
// next cursor, which is 0 at the end. n may be 0 before the end. A listing contains each entry that lives throughout it
// once. Packets do not wait for it. prefix returns the NAT64 prefix of a number.
func (t *Table) Records(cursor uint64, buf []Record, now table.Time, prefix func(uint8) netip.Prefix) (n int, next uint64) {
	pass, at := cursor>>passShift, cursor&(1<<passShift-1)
	switch pass {
	case staticBindings:
		n, at = t.bindingRecords(at, buf, true)
	case allSessions:
		n, at = t.sessionRecords(at, buf, now, prefix)
	case heldPorts:
		n, at = t.heldRecords(at, buf, now)
	case dynamicBindings:
		n, at = t.bindingRecords(at, buf, false)
	case portBlocks:
		n, at = t.blockRecords(at, buf)
	}
	if at == 0 {
		pass++
	}
	if pass == passes {
		return n, 0
	}
	return n, pass<<passShift | at
}

func (t *Table) bindingRecords(cursor uint64, buf []Record, static bool) (n int, next uint64) {
	rows := make([]bib.Binding, len(buf))
	k, end := t.bib.List(uint32(cursor), rows)
	for _, b := range rows[:k] {
		if b.Static == static {
			buf[n] = Record{Kind: BindingRecord, Proto: b.Proto, Client: b.Client, Mapped: b.Mapped, Static: b.Static}
			n++
		}
	}
	return n, uint64(end)
}

func (t *Table) heldRecords(cursor uint64, buf []Record, now table.Time) (n int, next uint64) {
	rows := make([]pool4.HeldPort, len(buf))
	n, next = t.bib.Pool().HeldPorts(cursor, rows, now.Duration())
	for i := range rows[:n] {
		buf[i] = heldRecord(&rows[i])
	}
	return n, next
}

func heldRecord(h *pool4.HeldPort) Record {
	r := Record{Kind: HeldRecord, Proto: h.Proto, Mapped: h.At, Remaining: h.Remaining, Owned: h.Owned}
	if h.Owned {
		r.Client.Addr = h.Owner
	}
	return r
}

func (t *Table) blockRecords(cursor uint64, buf []Record) (n int, next uint64) {
	rows := make([]pool4.Block, len(buf))
	n, next = t.bib.Pool().Blocks(cursor, rows)
	for i, b := range rows[:n] {
		buf[i] = Record{
			Kind: BlockRecord, Proto: b.Proto, Client: packet.Endpoint6{Addr: b.Client},
			Mapped: packet.Endpoint4{Addr: b.Addr.As4(), Port: b.Lo}, LastPort: b.Hi,
		}
	}
	return n, next
}

func (t *Table) sessionRecords(cursor uint64, buf []Record, now table.Time, prefix func(uint8) netip.Prefix) (n int, next uint64) {
	var last uint32
	t.epochs.Read(func() {
		n, last = t.each(max(uint32(cursor), 1), len(buf), now, func(i int, slot uint32, e *entry, w word) {
			t.record(&buf[i], slot, e, w, now)
			buf[i].Prefix = prefix(w.prefix())
		})
	})
	return n, uint64(last)
}

// record copies a session whose word is w. The caller is in Epochs.Read.
func (t *Table) record(r *Record, slot uint32, e *entry, w word, now table.Time) {
	p := t.policy.Load()
	c := t.copy(e, w)
	*r = Record{
		Kind: SessionRecord, Proto: c.Proto, Client: c.Client, Mapped: c.Mapped, Remote: c.Remote, Static: c.Static,
		State: c.State, Lifetime: uint8(w.lifetime()), Remaining: w.remaining(&p.limits, now+origin),
		Inbound: t.inbound.began(e), Unanswered: w.unanswered(),
	}
	r.Unanswered = r.Unanswered && r.Inbound // the client may answer meanwhile
	if p.windows != nil {
		for side := range r.Windows {
			r.Windows[side] = p.windows.at(slot)[side].Load()
		}
	}
}
