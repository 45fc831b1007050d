package config

import (
	"reflect"

	"github.com/spf13/pflag"
)

// Overrides holds the settings of the command line, which override files and environment variables.
type Overrides struct {
	Flags *pflag.FlagSet // flags declared by AddFlags; nil: none
	DNS64 bool           // DNS64 is enabled and runs without a gateway, so no interface needs a name
}

// flags lists the flags that set a key.
var flags = []struct{ name, key, help string }{
	{"v6", "interfaces.v6.name", "interface in the IPv6-only network; host: serve what this machine routes"},
	{"v4", "interfaces.v4.name", "interface in the IPv4 network; may be the same; default: that of the default route; host: this machine forwards by any uplink"},
	{"pool6", "pool6", "NAT64 prefix (default 64:ff9b::/96); may be repeated"},
	{"pool4", "pool4", "IPv4 address and ports to translate to, such as 10.0.2.15:7000-8000, or interface:eth1; may be repeated"},
	{"socket", "api.socket", "control socket (default /run/nat64d/nat64d.sock)"},
	{"engine", "interfaces.engine", "how packets are moved: auto, ring, mmsg or simple"},
	{"offloads", "interfaces.offloads", "auto: the offload settings of the interfaces follow the load; manage: they suit a high load; leave: they are not changed"},
	{"force", "host.force", "take ports of pool4 even if the host needs them"},
	{"share-interfaces", "host.share_interfaces", "start even if another nat64d carries packets on the same interfaces"},
	{"handover", "state.handover", "how long the guard stays after a stop, for the next start to take over, such as 30s"},
	{"log-level", "logging.level", "debug, info, warn or error"},
}

// AddFlags declares the flags that set a key.
func AddFlags(fs *pflag.FlagSet) {
	layout := fresh()
	for _, f := range flags {
		help := f.help
		if f.key != f.name {
			help += " (" + f.key + ")"
		}
		switch layout.at(f.key).Kind() {
		case reflect.Bool:
			fs.Bool(f.name, false, help)
		case reflect.Slice:
			fs.StringArray(f.name, nil, help)
		default:
			fs.String(f.name, "", help)
		}
	}
}

// override binds keys to the flags that were given. An empty flag counts as not given, like an empty variable. Flags that
// were not given stay unbound, because viper would use their defaults as values.
func (d *document) override(o Overrides) {
	for _, f := range flags {
		if o.Flags == nil {
			break
		}
		if flag := o.Flags.Lookup(f.name); flag != nil && flag.Changed && flag.Value.String() != "" {
			_ = d.settings.BindPFlag(path(f.key), flag) // fails only without a flag
			d.supersede(f.key, "--"+f.name)
		}
	}
	if o.DNS64 {
		d.settings.Set(path("dns64.enabled"), "true")
		d.supersede("dns64.enabled", "nat64d dns64")
	}
}
