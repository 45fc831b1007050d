package synstore_test

import (
	"testing"
	"time"

	"nat64d/drop"
	"nat64d/packet"
	"nat64d/synstore"
)

const lifetime = 6 * time.Second

func newStore(l synstore.Limits) *synstore.Store {
	s := new(synstore.Store)
	l.Lifetime = lifetime
	s.Configure(l)
	return s
}

// host and pooled return transport addresses of the IPv4 side and of pool4.
func host(n byte, port uint16) packet.Endpoint4 {
	return packet.Endpoint4{Addr: packet.Addr4{198, 51, 100, n}, Port: port}
}

func pooled(n byte, port uint16) packet.Endpoint4 {
	return packet.Endpoint4{Addr: packet.Addr4{192, 0, 2, n}, Port: port}
}

func TestLimitsOfStoredSYNs(t *testing.T) {
	t.Parallel()
	s := newStore(synstore.Limits{Total: 5, PerSource: 3})
	for i, c := range []struct {
		host byte
		port uint16
		want drop.Reason
	}{
		{1, 7000, drop.StoredSYN},
		{1, 7001, drop.StoredSYN},
		{1, 7000, drop.StoredSYN}, // again
		{1, 7002, drop.StoredSYN},
		{1, 7003, drop.StoredSYNLimit},
		{2, 7000, drop.StoredSYN},
		{3, 7000, drop.StoredSYN},
		{4, 7000, drop.StoredSYNLimit},
	} {
		if r := s.Add(host(c.host, 6000), pooled(1, c.port), nil, 0); r != c.want {
			t.Errorf("SYN %d: %v, want %v", i, r, c.want)
		}
	}
	if n := len(s.Expire(lifetime, 10)); n != 0 {
		t.Errorf("%d expire within their lifetime", n)
	}
	if all, more := s.Expire(lifetime+1, 3), s.Expire(lifetime+1, 3); len(all) != 3 || len(more) != 2 || s.Len() != 0 {
		t.Errorf("%d, then %d expire, want 3 and 2; %d are left", len(all), len(more), s.Len())
	}
	s.Configure(synstore.Limits{Total: 5, PerPool4: 2, Lifetime: lifetime})
	for i, want := range []drop.Reason{drop.StoredSYN, drop.StoredSYN, drop.StoredSYNLimit} {
		if r := s.Add(host(byte(i), 6000), pooled(1, 7000), nil, 0); r != want {
			t.Errorf("SYN %d to one address: %v, want %v", i, r, want)
		}
	}
	if r := s.Add(host(9, 6000), pooled(2, 7000), nil, 0); r != drop.StoredSYN {
		t.Errorf("a SYN to another address: %v", r)
	}
}

// A SYN that comes again does not wait longer, and an expired one is neither claimed nor listed.
func TestLifetimeOfStoredSYNs(t *testing.T) {
	t.Parallel()
	s := newStore(synstore.Limits{Total: 5})
	s.Add(host(1, 1), pooled(1, 1), nil, time.Second)
	s.Add(host(1, 1), pooled(1, 1), nil, 4*time.Second)
	if all := s.List(5 * time.Second); len(all) != 1 || all[0].Remaining != 2*time.Second {
		t.Errorf("listed: %+v, want 2 s left", all)
	}
	late := time.Second + lifetime + 1
	if len(s.List(late)) != 0 || s.Claim(pooled(1, 1), host(1, 1), late) {
		t.Error("an expired SYN is listed or claimed")
	}
	if !s.Claim(pooled(1, 1), host(1, 1), late-1) || s.Claim(pooled(1, 1), host(1, 1), late-1) || s.Len() != 0 {
		t.Error("the SYN is not claimed just once")
	}
}

func TestWantedTransportAddresses(t *testing.T) {
	t.Parallel()
	s := newStore(synstore.Limits{Total: 100})
	if all := s.Wanted(host(1, 1)); all != nil {
		t.Errorf("wanted of an empty store: %v", all)
	}
	for port := range uint16(12) {
		s.Add(host(1, 1), pooled(1, 7000+port), nil, 0)
	}
	s.Add(host(1, 2), pooled(1, 8000), nil, 0)
	s.Claim(pooled(1, 7001), host(1, 1), 0)
	s.Forget(pooled(1, 7002))
	all := s.Wanted(host(1, 1))
	if len(all) != 8 || all[0] != pooled(1, 7000) || all[1] != pooled(1, 7003) || all[7] != pooled(1, 7009) {
		t.Errorf("wanted: %v, want the eight oldest that are left", all)
	}
	if s.Len() != 11 {
		t.Errorf("%d are stored, want 11", s.Len())
	}
}

// The store returns a copy of the packet, truncated to the length of an ICMP error's quote.
func TestStoredSYNIsCopied(t *testing.T) {
	t.Parallel()
	s := newStore(synstore.Limits{Total: 1})
	p := make([]byte, 1500)
	p[0], p[547] = 0x45, 1
	s.Add(host(1, 6000), pooled(1, 7000), p, 0)
	clear(p)
	all := s.Expire(lifetime+1, 10)
	if len(all) != 1 || len(all[0].Packet) != 548 || all[0].Packet[0] != 0x45 || all[0].Packet[547] != 1 || all[0].Src != host(1, 6000) || all[0].Dst != pooled(1, 7000) {
		t.Errorf("expired: %+v", all)
	}
}
