package config

// feature is a key that this version accepts but does not implement.
type feature struct {
	key string   // with [] for the rows of a list
	off []string // the accepted values, which leave the feature off; a list is written [a, b]
}

// features lists what a file may leave off but not switch on. An operator who relies on a missing feature gets an error, and
// a file that writes the defaults stays valid when the feature is added.
var features = []feature{
	{"interfaces.v6.gateway", []string{"auto"}},
	{"interfaces.v4.gateway", []string{"auto"}},
	{"pool4[].answer_arp", []string{"auto"}},
	{"nat_log.sinks[].type", []string{"journal"}},
	{"ra.pref64", []string{"false", "no", "off", "0"}},
	{"ha.mode", []string{"none"}},
}
