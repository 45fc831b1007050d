package packet_test

import (
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"testing"

	"nat64d/packet"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func word(t testing.TB, s string) uint16 {
	b := unhex(t, s)
	return uint16(b[0])<<8 | uint16(b[1])
}

func TestAdjust(t *testing.T) {
	b, err := os.ReadFile("testdata/checksums.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Vectors []struct{ Old, Removed, Added, New string }
	}
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	for _, v := range file.Vectors {
		var s packet.Sum
		for r := unhex(t, v.Removed); len(r) > 0; r = r[2:] {
			s = s.Less(uint16(r[0])<<8 | uint16(r[1]))
		}
		s = s.Bytes(unhex(t, v.Added))
		if got, want := s.Adjust(word(t, v.Old)), word(t, v.New); got != want {
			t.Errorf("%s less %s plus %s: %04x, want %04x", v.Old, v.Removed, v.Added, got, want)
		}
	}
}

// slowSum implements RFC 1071 literally.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		if s > 0xffff {
			s -= 0xffff
		}
	}
	return uint16(s)
}

func TestSumMatchesRFC1071(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32() >> 24)
			if n%3 == 0 {
				b[i] = 0xff
			}
		}
		if got, want := packet.Sum(0).Bytes(b).Fold(), slowSum(b); got != want {
			t.Fatalf("%x: %04x, want %04x", b, got, want)
		}
	}
}

func BenchmarkSum1460(b *testing.B) {
	p := make([]byte, 1460)
	b.SetBytes(1460)
	for b.Loop() {
		packet.Sum(0).Bytes(p).Checksum()
	}
}
