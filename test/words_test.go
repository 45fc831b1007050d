package test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"nat64d/config"
	"nat64d/linux/afpacket"
	"nat64d/linux/nexthop"
)

// TestConfigKnowsWordsOfOtherPackages compares the words that config allows for a key with those of the package that
// parses them later.
func TestConfigKnowsWordsOfOtherPackages(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		section, key string
		known        func(word string) bool
		all          int
	}{
		{"interfaces", "engine", func(word string) bool {
			e, err := afpacket.ParseEngine(word)
			return err == nil && e.String() == word
		}, int(afpacket.Simple) + 1},
		{"host", "answer_arp", func(word string) bool {
			m, err := nexthop.ParseAnswerARP(word)
			return err == nil && m.String() == word
		}, int(nexthop.ARPOff) + 1},
	} {
		_, err := config.Parse("f", strings.NewReader(tt.section+": { "+tt.key+": nonsense }"), named(t))
		if err == nil {
			t.Fatalf("%s: nonsense was accepted", tt.key)
		}
		_, list, _ := strings.Cut(err.Error(), "must be one of ")
		words := strings.Split(list, ", ")
		if len(words) != tt.all {
			t.Errorf("%s: config allows %v, want %d words", tt.key, words, tt.all)
		}
		for _, word := range words {
			if !tt.known(word) {
				t.Errorf("%s: config allows %q, which its package does not know", tt.key, word)
			}
		}
	}
}

// named returns flags that name both interfaces.
func named(t *testing.T) config.Overrides {
	fs := pflag.NewFlagSet("nat64d", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse([]string{"--v6=eth0", "--v4=eth1"}); err != nil {
		t.Fatal(err)
	}
	return config.Overrides{Flags: fs}
}
