package config

// feature is a key of the layout that this version knows but does nothing with.
type feature struct {
	key string   // a list's rows are written []
	off []string // the values that are accepted, because nothing is then asked for; a list is written [a, b]
}

// features are what a file may leave off but not switch on: an operator who relies on one must hear that it is not
// there, and a file that spells out the defaults must go on working when it comes.
var features = []feature{
	{"interfaces.v6.gateway", []string{"auto"}},
	{"interfaces.v4.gateway", []string{"auto"}},
	{"pool4[].match.source6", []string{"[]"}},
	{"pool4[].answer_arp", []string{"auto"}},
	{"nat_log.sinks[].type", []string{"journal"}},
	{"metrics.listen", []string{""}},
	{"web.listen", []string{""}},
	{"ra.pref64", []string{"false", "no", "off", "0"}},
	{"ha.mode", []string{"none"}},
	{"state.save_sessions_on_exit", []string{"false", "no", "off", "0"}},
}
